// Remembers which tokens the pages of earlier prompts and completions hold, so that a prompt that begins the same way need
// not be computed again: system prompts, further turns of a conversation, recomputation after a preemption.
//
// A tree over pages of 16 tokens for each weight version (of the model, of an adapter): keys and values of another version are
// other numbers. A page is found only together with everything before it, tokens compared one by one, so a hit is exact. Pages
// belong to the pool, which drops the least recently used when it needs room. Torch-free; the engine's thread owns it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "rft/core/types.h"
#include "rft/engine/page_pool.h"

namespace rft {

class PrefixCache {
 public:
  // Takes the pool's on_reuse. `pool` must outlive it.
  PrefixCache(PagePool& pool, int64_t page_tokens);

  // Pages of the longest known prefix of `tokens` that is at most `limit` tokens long; each has a reference more. `limit`
  // leaves at least one token to compute where a next one is to be predicted.
  // A text with a `salt` is another text.
  std::vector<PageId> Match(int64_t version, const std::vector<TokenId>& tokens, int64_t limit,
                            std::string_view salt = "");
  // The first `num_pages` of `pages` hold the keys and values of the same pages of `tokens`. Of equal content the first
  // page stays known.
  void Insert(int64_t version, const std::vector<TokenId>& tokens, const std::vector<PageId>& pages,
              int64_t num_pages, std::string_view salt = "");
  // Nobody will ask for this version any more.
  void Forget(int64_t version);
  void Clear();

  int64_t num_pages() const { return num_pages_; }
  // Aborts the process when the tree and the pool disagree.
  void CheckInvariants() const;

 private:
  struct Node {
    PageId page = -1;
    Node* parent = nullptr;
    std::vector<TokenId> key;
    std::map<std::vector<TokenId>, std::unique_ptr<Node>> children;
  };
  // A page's tokens; of a text's first page, the bytes of the salt after them.
  std::vector<TokenId> KeyOf(const std::vector<TokenId>& tokens, int64_t page,
                             std::string_view salt) const;
  Node* Child(Node& node, const std::vector<TokenId>& tokens, int64_t page,
              std::string_view salt) const;
  // Forgets the pages below `node`, and its own.
  void ForgetTree(Node& node);
  void OnReuse(PageId page);

  PagePool& pool_;
  const int64_t page_tokens_;
  std::map<int64_t, Node> roots_;  // by version
  std::vector<Node*> node_of_;     // by page; null when it is not in the tree
  int64_t num_pages_ = 0;
};

}  // namespace rft
