#include "rft/engine/prefix_cache.h"

#include <algorithm>

#include "rft/core/check.h"

namespace rft {

PrefixCache::PrefixCache(PagePool& pool, int64_t page_tokens)
    : pool_(pool), page_tokens_(page_tokens), node_of_(pool.total(), nullptr) {
  pool_.set_on_reuse([this](PageId page) { OnReuse(page); });
}

std::vector<TokenId> PrefixCache::KeyOf(const std::vector<TokenId>& tokens, int64_t page,
                                        std::string_view salt) const {
  const auto first = tokens.begin() + page * page_tokens_;
  std::vector<TokenId> key(first, first + page_tokens_);
  if (page == 0) key.insert(key.end(), salt.begin(), salt.end());
  return key;
}

PrefixCache::Node* PrefixCache::Child(Node& node, const std::vector<TokenId>& tokens, int64_t page,
                                      std::string_view salt) const {
  if (node.children.empty()) return nullptr;
  const auto it = node.children.find(KeyOf(tokens, page, salt));
  return it == node.children.end() ? nullptr : it->second.get();
}

std::vector<PageId> PrefixCache::Match(int64_t version, const std::vector<TokenId>& tokens,
                                       int64_t limit, std::string_view salt) {
  std::vector<PageId> pages;
  const auto root = roots_.find(version);
  if (root == roots_.end()) return pages;
  const int64_t whole = std::min(limit, static_cast<int64_t>(tokens.size())) / page_tokens_;
  Node* node = &root->second;
  for (int64_t p = 0; p < whole && (node = Child(*node, tokens, p, salt)) != nullptr; ++p) {
    pool_.AddRef(node->page);
    pages.push_back(node->page);
  }
  return pages;
}

void PrefixCache::Insert(int64_t version, const std::vector<TokenId>& tokens,
                         const std::vector<PageId>& pages, int64_t num_pages,
                         std::string_view salt) {
  if (num_pages == 0) return;
  Node* node = &roots_[version];
  for (int64_t p = 0; p < num_pages; ++p) {
    Node* child = Child(*node, tokens, p, salt);
    if (child == nullptr) {
      if (node_of_[pages[p]] != nullptr) return;  // known under another version
      auto made = std::make_unique<Node>();
      made->page = pages[p];
      made->parent = node;
      made->key = KeyOf(tokens, p, salt);
      child = made.get();
      node->children.emplace(made->key, std::move(made));
      pool_.Retain(pages[p]);
      node_of_[pages[p]] = child;
      ++num_pages_;
    }
    node = child;
  }
}

void PrefixCache::ForgetTree(Node& node) {
  for (auto& [key, child] : node.children) ForgetTree(*child);
  if (node.page < 0) return;
  node_of_[node.page] = nullptr;
  --num_pages_;
  pool_.Forget(node.page);
}

void PrefixCache::OnReuse(PageId page) {
  Node* node = node_of_[page];
  ForgetTree(*node);
  node->parent->children.erase(node->parent->children.find(node->key));
}

void PrefixCache::Forget(int64_t version) {
  const auto it = roots_.find(version);
  if (it == roots_.end()) return;
  ForgetTree(it->second);
  roots_.erase(it);
}

void PrefixCache::Clear() {
  for (auto& [version, root] : roots_) ForgetTree(root);
  roots_.clear();
}

void PrefixCache::CheckInvariants() const {
  int64_t known = 0;
  for (int64_t page = 0; page < pool_.total(); ++page) {
    const Node* node = node_of_[page];
    RFT_CHECK((node != nullptr) == pool_.retained(static_cast<PageId>(page)));
    if (node == nullptr) continue;
    RFT_CHECK(node->page == page);
    RFT_CHECK(node->parent->children.at(node->key).get() == node);
    ++known;
  }
  RFT_CHECK(known == num_pages_);
  RFT_CHECK(pool_.idle() <= num_pages_);
}

}  // namespace rft
