#include "rft/serve/completion_text.h"

#include <algorithm>

#include "rft/core/text.h"

namespace rft::serve {
namespace {

// Bytes at the end of `text` that begin a UTF-8 character and lack the rest of it.
size_t UnfinishedCharacter(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // a later byte of a character
    const size_t length = byte >= 0xF5   ? 1
                          : byte >= 0xF0 ? 4
                          : byte >= 0xE0 ? 3
                          : byte >= 0xC2 ? 2
                                         : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

std::string_view TokenBytes(const TextCodec& codec, TokenId id) {
  const auto& table = codec.token_bytes();
  if (id < 0 || static_cast<size_t>(id) >= table.size()) return {};
  return table[static_cast<size_t>(id)];
}

std::string CompletionText::Add(TokenId id) {
  if (!options_->detokenize) return "";
  const auto index = static_cast<size_t>(id);
  const auto& special = codec_->is_special();
  const bool hidden =
      options_->skip_special_tokens && id >= 0 && index < special.size() && special[index];
  const size_t before = held_.size();
  held_ += TokenBytes(*codec_, id);
  hidden_.resize(held_.size(), hidden);
  stop_at_ = held_.npos;
  size_t certain = held_.size();
  for (const std::string& stop : options_->stop_strings) {
    // Completed by this token?
    const size_t from = before + 1 > stop.size() ? before + 1 - stop.size() : 0;
    const size_t found = held_.find(stop, from);
    if (found != held_.npos && found < stop_at_) {
      stop_at_ = found;
      stop_string_ = stop;
    }
    // Or begun at the end?
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > 0; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) != 0) continue;
      certain = std::min(certain, held_.size() - length);
      break;
    }
  }
  return Take(std::min(certain, stop_at_), /*all=*/false);
}

std::string CompletionText::Finish(bool stopped) {
  const bool cut = stopped && stop_at_ != held_.npos;
  if (!cut) stop_string_.clear();
  size_t end = held_.size();
  if (cut) end = stop_at_ + (options_->include_stop_string ? stop_string_.size() : 0);
  return Take(end, /*all=*/true);
}

std::string CompletionText::Take(size_t count, bool all) {
  std::string shown;
  for (size_t i = 0; i < count; ++i)
    if (!hidden_[i]) shown += held_[i];
  size_t unfinished = all ? 0 : UnfinishedCharacter(shown);
  shown.erase(shown.size() - unfinished);
  for (; unfinished > 0; --count)
    if (!hidden_[count - 1]) --unfinished;
  std::string text = ReplaceInvalidUtf8(shown);
  held_.erase(0, count);
  hidden_.erase(hidden_.begin(), hidden_.begin() + static_cast<int64_t>(count));
  if (stop_at_ != held_.npos) stop_at_ -= count;
  return text;
}

}  // namespace rft::serve
