// The classes without exceptions: compiled with -fno-exceptions and -fno-rtti.
#define QWENGUARD_NO_EXCEPTIONS
#include <qwenguard.hpp>
#include <qwenguard.hpp>

#include <string>

#include "check.hpp"

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
    qwenguard::Guard taken = std::move(guard).value();
    CHECK(taken.encode("Hello").value().size() > 0);
    return 0;
}
