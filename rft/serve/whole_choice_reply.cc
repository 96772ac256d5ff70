#include "rft/serve/whole_choice_reply.h"

#include <utility>

#include "rft/serve/reply_parts.h"

namespace rft::serve {
namespace {

class WholeChoiceReply : public ReplyWriter {
 public:
  explicit WholeChoiceReply(std::shared_ptr<ReplyWriter> writer) : writer_(std::move(writer)) {}

  bool streams() const override { return writer_->streams(); }
  std::string Events(int64_t choice, const std::vector<TokenPiece>&,
                     const Completion* finished) override {
    if (finished == nullptr) return "";
    return writer_->Events(choice, PiecesOf(*finished), finished);
  }
  std::string LastEvents() override { return writer_->LastEvents(); }
  std::string Body(const std::vector<Completion>& completions) override {
    return writer_->Body(completions);
  }

 private:
  const std::shared_ptr<ReplyWriter> writer_;
};

}  // namespace

std::shared_ptr<ReplyWriter> MakeWholeChoiceReply(std::shared_ptr<ReplyWriter> writer) {
  return std::make_shared<WholeChoiceReply>(std::move(writer));
}

}  // namespace rft::serve
