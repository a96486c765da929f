// The classes without exceptions: compiled with -fno-exceptions, which they see themselves, and -fno-rtti.
#include <qwenguard.hpp>
#include <qwenguard.hpp>

#include <string>
#include <vector>

#include "check.hpp"

#ifndef QWENGUARD_NO_EXCEPTIONS
#error "-fno-exceptions was not seen"
#endif

int results() {
    auto none = qwenguard::Guard::open("/nowhere");
    CHECK(!none && none.error().status() == qwenguard::Status::BundleFile);
    CHECK(none.error().message().find("/nowhere") != std::string::npos);
    auto guard = qwenguard::Guard::nano({1, 64, {}, {}});
    CHECK(guard);
    auto stream = guard->stream();
    CHECK(stream);
    auto too_early = stream->push_text("x");
    CHECK(!too_early && too_early.error().status() == qwenguard::Status::WrongState);
    auto check = stream->prompt({qwenguard::Message::user("Hello")});
    CHECK(check && check->decision == qwenguard::Decision::Continue);
    auto update = stream->push_text("Hi.");
    CHECK(update && update->received == 3 && (*update).final_tokens == 1);
    auto tokens = stream->tokens();
    CHECK(tokens && tokens->size() == update->token_count);
    const qwenguard::Call calls[] = {qwenguard::Call::push_text(*stream, " You"), qwenguard::Call::finish(*stream)};
    auto replies = qwenguard::call_all({calls, 2});
    CHECK(replies && replies->size() == 2 && (*replies)[0].update()->received == 7);
    CHECK(!(*replies)[1].update() && (*replies)[1].update().error().status() == qwenguard::Status::InUse);
    auto queue = qwenguard::Queue::open();
    CHECK(queue && queue->submit(qwenguard::Call::finish(*stream), 1));
    auto busy = stream->finish();
    CHECK(!busy && busy.error().status() == qwenguard::Status::InUse);
    auto done = queue->wait(qwenguard::Queue::forever);
    CHECK(done && done->size() == 1 && (*done)[0].reply.update()->horizon == 7);
    qwenguard::Guard taken = std::move(guard).value();
    const std::vector<qwenguard::TextToken> encoded = taken.encode("Hello there").value();
    qwenguard::Stream pushed = taken.stream().value();
    CHECK(pushed.prompt({qwenguard::Message::user("Hello")}));
    CHECK(pushed.push_tokens(encoded)->token_count == encoded.size());
    const qwenguard::Call same[] = {qwenguard::Call::push_tokens(pushed, encoded)};
    CHECK((*qwenguard::call_all({same, 1}))[0].update()->received == 22);
    const qwenguard::Call back[] = {qwenguard::Call::truncate(pushed, 11)};
    CHECK((*qwenguard::call_all({back, 1}))[0].update()->received == 11);
    auto annotation = taken.annotate({qwenguard::Message::user("Hello")});
    CHECK(annotation && annotation->risk() == qwenguard::Risk::Safe && annotation->json()->size() > 20);
    auto wrong = annotation->judge("what = 1");
    CHECK(!wrong && wrong.error().status() == qwenguard::Status::Config);
    auto reward = annotation->reward();
    CHECK(!reward && reward.error().status() == qwenguard::Status::Argument);
    CHECK(queue->annotate(taken, {qwenguard::Message::user("Hello")}, 2));
    CHECK((*queue->wait(qwenguard::Queue::forever))[0].reply.annotation()->risk() == qwenguard::Risk::Safe);
    int woken = 0;
    CHECK(queue->set_wake([&woken] { woken++; }) && queue->descriptor() && *queue->descriptor() >= 0);
    CHECK(queue->set_wake({}));
    CHECK(qwenguard::set_log(qwenguard::LogLevel::Warning, [](auto, auto, auto) {}));
    CHECK(qwenguard::set_log(qwenguard::LogLevel::Off, {}));
    auto counts = taken.verdict_counts();
    CHECK(counts && !counts->empty());
    auto nowhere = qwenguard::Guard::open(std::filesystem::path("/nowhere"));
    CHECK(!nowhere && nowhere.error().status() == qwenguard::Status::BundleFile);
    return 0;
}
