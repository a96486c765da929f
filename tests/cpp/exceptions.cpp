// The classes with exceptions. Linked with results.cpp, which has chosen otherwise, and both include the header twice.
#include <qwenguard.hpp>
#include <qwenguard.hpp>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "check.hpp"

int results();

static_assert(!std::is_copy_constructible_v<qwenguard::Guard> && !std::is_copy_constructible_v<qwenguard::Stream>);
static_assert(std::is_nothrow_move_constructible_v<qwenguard::Guard>);
static_assert(std::is_nothrow_move_constructible_v<qwenguard::Stream>);

namespace {

template <class Call> void fails(qwenguard::Status status, const std::string &part, Call call) {
    try {
        call();
    } catch (const qwenguard::Error &error) {
        CHECK(error.status() == status);
        CHECK(error.message().find(part) != std::string::npos);
        return;
    }
    CHECK(!"it failed");
}

void providers() {
    const std::string all = qwenguard::Guard::providers();
    CHECK(all.find("{\"provider\":\"cpu\",\"available\":true,") == 1);
    CHECK(all.find("\"provider\":\"webgpu\"") != std::string::npos);
    fails(qwenguard::Status::Config, "runtime.provider",
          [] { qwenguard::Guard::providers({0, 0, "runtime.provider = 'gpu'", {}}); });
    fails(qwenguard::Status::Provider, "execution provider cuda",
          [] { qwenguard::Guard::nano({1, 64, "runtime.provider = 'cuda'", {}}); });
}

void moves() {
    qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, {}, {}});
    qwenguard::Guard other = std::move(guard);
    fails(qwenguard::Status::Null, "guard", [&] { guard.stream(); });
    qwenguard::Stream stream = other.stream();
    {
        const qwenguard::Guard gone = std::move(other);
        CHECK(gone.info().find("\"provider\":\"cpu\"") != std::string::npos);
    }
    qwenguard::Stream moved = std::move(stream);
    fails(qwenguard::Status::Null, "stream", [&] { stream.push_text("x"); });
    CHECK(moved.prompt({qwenguard::Message::user("Hello")}).decision == qwenguard::Decision::Continue);
    stream = moved.fork();
    CHECK(stream.push_text("Hi.").received == 3);
    CHECK(stream.context_used() > moved.context_used());
    qwenguard::Stream raw(moved.release());
    CHECK(moved.get() == nullptr);
    CHECK(raw.push_text("Hello you").received == 9);
}

void errors() {
    fails(qwenguard::Status::BundleFile, "/nowhere", [] { qwenguard::Guard::open("/nowhere"); });
    fails(qwenguard::Status::Config, "threads", [] { qwenguard::Guard::nano({0, 0, "threads = 2", {}}); });
    const qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, {}, {}});
    fails(qwenguard::Status::Config, "Spam", [&] { guard.stream("answer.categories.Spam.at = 0.5"); });
    fails(qwenguard::Status::Enum, "heads", [&] { guard.categories(static_cast<qwenguard::Heads>(7)); });
    fails(qwenguard::Status::Argument, "there is no token", [&] { guard.token_bytes(4000000000u); });
    qwenguard::Stream stream = guard.stream("");
    fails(qwenguard::Status::WrongState, "before the prompt", [&] { stream.finish(); });
    fails(qwenguard::Status::Conversation, "user", [&] { stream.prompt({}); });
}

void views() {
    const qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, {}, {}});
    CHECK(guard.categories(qwenguard::Heads::Prompt).size() == 9);
    CHECK(guard.category(qwenguard::Heads::Answer, 0) == "Violent");
    std::string text, rebuilt;
    for (int round = 0; round < 40; round++)
        text += "\xe0\xa5\x98 is longer when it is normalised. ";
    for (const qwenguard::TextToken &token : guard.encode(text))
        rebuilt += guard.token_bytes(token.id);
    CHECK(rebuilt.size() >= text.size());
    qwenguard::Stream stream = guard.stream();
    stream.prompt({qwenguard::Message::user("Hello")});
    CHECK(stream.tokens().empty());
    const qwenguard::Update update = stream.push_text("Hello to you and to all the others.");
    std::size_t count = 0;
    for (const qwenguard::TokenVerdict &token : stream.tokens()) {
        CHECK(token.verdict.risk() == qwenguard::Risk::Safe && !token.verdict.category());
        CHECK(token.verdict.probability(qwenguard::Risk::Safe) > 0.3f);
        CHECK(token.verdict.category_probabilities().size() == 8);
        CHECK(token.bytes.size() > 0);
        count++;
    }
    CHECK(count == update.token_count && count > 5);
    CHECK(qwenguard::name(qwenguard::Status::Busy) == "QG_ERROR_BUSY");
    CHECK(qwenguard::is_compatible() && qwenguard::version() == qg_version());
}

void many() {
    const qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, {}, {}});
    qwenguard::Stream one = guard.stream(), other = guard.stream();
    const qwenguard::Message messages[] = {qwenguard::Message::user("Hello")};
    const qwenguard::Call prompts[] = {qwenguard::Call::prompt(one, {messages, 1}), qwenguard::Call::finish(other)};
    const std::vector<qwenguard::Reply> replies = qwenguard::call_all({prompts, 2});
    CHECK(replies.size() == 2 && replies[0].check().decision == qwenguard::Decision::Continue);
    CHECK(replies[0].status() == qwenguard::Status::Ok && replies[0].message().empty());
    fails(qwenguard::Status::WrongState, "another kind", [&] { replies[0].update(); });
    fails(qwenguard::Status::WrongState, "before the prompt", [&] { replies[1].update(); });
    CHECK(qwenguard::call_all({}).empty());

    const qwenguard::Queue queue = qwenguard::Queue::open();
    queue.submit(qwenguard::Call::push_text(one, "Hi."), 7);
    CHECK(queue.size() == 1);
    const std::vector<qwenguard::Completion> done = queue.wait(qwenguard::Queue::forever);
    CHECK(done.size() == 1 && done[0].tag == 7 && done[0].stream == one.get());
    CHECK(done[0].reply.update().received == 3 && one.tokens().size() > 0);
    CHECK(queue.wait(std::chrono::milliseconds(0)).empty() && queue.cancel(7) == 0 && queue.size() == 0);
    fails(qwenguard::Status::Argument, "capacity", [&] { queue.wait(qwenguard::Queue::forever, 0); });
    CHECK(guard.stats().open_streams == 2 && guard.stats().tokens > 0);
    CHECK(guard.metrics().find("qwenguard_open_streams 2\n") != std::string::npos);
}

void annotations() {
    using qwenguard::Message;
    std::optional<qwenguard::Guard> guard = qwenguard::Guard::nano({1, 64, {}, {}});
    const std::initializer_list<Message> killing = {Message::user("Hello"), Message::assistant("I build a bomb and kill you with it.")};
    const std::vector<Message> none;
    const qwenguard::Annotation said = guard->annotate(killing);
    fails(qwenguard::Status::Conversation, "no message", [&] { guard->annotate(none); });
    fails(qwenguard::Status::Enum, "options.decoding", [&] {
        guard->annotate(killing, {static_cast<qwenguard::Decoding>(3), qwenguard::TextOverflow::Refuse});
    });
    const std::vector<std::vector<Message>> all = {killing, none};
    const std::vector<qwenguard::Reply> replies = guard->annotate_all(all);
    CHECK(replies.size() == 2 && replies[0].annotation().risk() == said.risk());
    fails(qwenguard::Status::WrongState, "another kind", [&] { replies[0].update(); });
    fails(qwenguard::Status::Conversation, "no message", [&] { replies[1].annotation(); });
    const qwenguard::Queue queue = qwenguard::Queue::open();
    queue.annotate(*guard, killing, 7);
    guard.reset();
    const std::vector<qwenguard::Completion> done = queue.wait(qwenguard::Queue::forever);
    CHECK(done.size() == 1 && done[0].tag == 7 && done[0].stream == nullptr);
    // A value: the copy lives on.
    std::optional<qwenguard::Annotation> first = done[0].reply.annotation();
    const qwenguard::Annotation copy = *first;
    first.reset();
    CHECK(copy.mode() == qwenguard::AnnotationMode::Response && copy.json().find("\"mode\":\"response\"") != std::string::npos);
    CHECK(copy.category_names().size() == 8 && !copy.refusal() && copy.judged().size() == 36 && copy.reward() == 0);
    CHECK(copy.judge("shadow = true").decision == qwenguard::Decision::Continue);
    fails(qwenguard::Status::Config, "Spam", [&] { copy.judge("answer.categories.Spam.action = 'flag'"); });
}

} // namespace

// A loop that sleeps until a call is done, told by a function and by a descriptor, and what moves with a queue.
void loops() {
    qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, {}, {}});
    qwenguard::Stream stream = guard.stream();
    qwenguard::Queue first = qwenguard::Queue::open();
    std::mutex mutex;
    std::condition_variable rang;
    bool ringing = false;
    int calls = 0;
    first.set_wake([&] {
        const std::lock_guard<std::mutex> lock(mutex);
        ringing = true;
        calls++;
        rang.notify_one();
        throw std::runtime_error("goes no further");
    });
    const std::int64_t descriptor = first.descriptor();
    CHECK(descriptor >= 0 && first.descriptor() == descriptor);
    qwenguard::Queue queue = std::move(first);
    const std::vector<qwenguard::Message> user = {qwenguard::Message::user("Hello")};
    queue.submit(qwenguard::Call::prompt(stream, user), 7);
    std::vector<qwenguard::Completion> done;
    while (done.empty()) {
        std::unique_lock<std::mutex> lock(mutex);
        rang.wait(lock, [&] { return ringing; });
        ringing = false;
        lock.unlock();
        done = queue.wait(std::chrono::milliseconds(0));
    }
    CHECK(done.size() == 1 && done[0].tag == 7 && done[0].reply.check().decision == qwenguard::Decision::Continue);
    queue.set_wake(nullptr);
    const int before = calls;
    queue.submit(qwenguard::Call::finish(stream), 8);
    done = queue.wait(qwenguard::Queue::forever);
    CHECK(done.size() == 1 && calls == before && before >= 1);
    // The function of the queue that is given up for another one is not called any more.
    queue.set_wake([&calls] { calls++; });
    queue = qwenguard::Queue::open();
    queue.set_wake([&calls] { calls++; });
    qg_queue *raw = queue.release();
    qg_queue_free(raw);
}

void log_and_counts() {
    std::mutex mutex;
    std::string seen;
    qwenguard::set_log(qwenguard::LogLevel::Info, [&](qwenguard::LogLevel level, std::string_view target, std::string_view text) {
        const std::lock_guard<std::mutex> lock(mutex);
        CHECK(level <= qwenguard::LogLevel::Info && !target.empty());
        seen += text;
        throw 7;
    });
    qwenguard::Guard guard = qwenguard::Guard::nano({1, 64, "name = 'cpp'", {}});
    qwenguard::set_log(qwenguard::LogLevel::Off, {});
    const std::string said = seen;
    CHECK(said.find("kernels on the CPU") != std::string::npos);
    qwenguard::Guard other = qwenguard::Guard::nano({1, 64, {}, {}});
    CHECK(seen == said);
    CHECK(guard.verdict_counts().empty());
    qwenguard::Stream stream = guard.stream();
    stream.prompt({qwenguard::Message::user("Hello")});
    const std::vector<qwenguard::VerdictCount> counts = guard.verdict_counts();
    CHECK(counts.size() == 1 && counts[0].channel == qwenguard::VerdictChannel::Prompt);
    CHECK(counts[0].risk == qwenguard::Risk::Safe && !counts[0].category && counts[0].verdicts == 1 && counts[0].stops == 0);
    CHECK(guard.metrics().find("{guard=\"cpp\",channel=\"prompt\",level=\"Safe\",category=\"None\"} 1\n") != std::string::npos);
}

// Paths are UTF-8 inside, whatever they are outside.
void paths() {
    const std::filesystem::path nowhere = std::filesystem::u8path("/nowhere/gr\u00fcn");
    CHECK(qwenguard::utf8(nowhere) == "/nowhere/gr\xc3\xbcn");
    qwenguard::Options options;
    options.runtime_library = qwenguard::utf8(nowhere);
    for (const auto open : {+[](const std::filesystem::path &path) { qwenguard::Guard::open(path); },
                            +[](const std::filesystem::path &path) { qwenguard::Guard::open(qwenguard::utf8(path)); },
                            +[](const std::filesystem::path &path) { qwenguard::Guard::open(qwenguard::utf8(path).c_str()); }}) {
        try {
            open(nowhere);
            CHECK(false);
        } catch (const qwenguard::Error &error) {
            CHECK(error.status() == qwenguard::Status::BundleFile);
            CHECK(error.message().find("/nowhere/gr\xc3\xbcn") != std::string::npos);
        }
    }
}

int main() {
    providers();
    paths();
    loops();
    log_and_counts();
    moves();
    errors();
    views();
    many();
    annotations();
    return results();
}
