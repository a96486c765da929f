/*
 * libqwenguard for C++17: the functions of qwenguard.h as classes. Header-only; link the library as for C.
 *
 *     qwenguard::Guard guard = qwenguard::Guard::open("Qwen3Guard-Stream-0.6B-bundle");
 *     qwenguard::Stream stream = guard.stream();
 *     stream.prompt({qwenguard::Message::user("How do I clean the kitchen?")});
 *     qwenguard::Update update = stream.push_text("Wipe the counters.");
 *
 * Whole conversations are judged by Guard::annotate, with bundles of Qwen3Guard-Gen, too:
 *
 *     qwenguard::Annotation said = guard.annotate({qwenguard::Message::user("How do I clean the kitchen?")});
 *
 * Guard, Stream and Queue own what they hold, can be moved and not copied, and may be destroyed in any order. One that was
 * moved from fails with Status::Null. An Annotation is a value. A Guard or a Queue is for any number of threads at once, a
 * Stream for one at a time: member functions that are const follow the rule of qwenguard.h for pointers to const.
 *
 * Errors are exceptions of type qwenguard::Error. In a program that is compiled without exceptions, or where
 * QWENGUARD_NO_EXCEPTIONS is defined, they are results instead: what is said here to return T returns a Result<T>, which is
 * true if it holds a T. A Result that is asked for what it does not hold ends the program (std::abort).
 *
 *     auto stream = guard->stream();
 *     if (!stream) return log(stream.error().message());
 *     auto update = stream->push_text("Wipe the counters.");
 *
 * Every function fails as the function of qwenguard.h does that it is named like; lengths and places are bytes,
 * probabilities 0 to 1. Text is UTF-8.
 */
#ifndef QWENGUARD_HPP
#define QWENGUARD_HPP

#include <chrono>
#include <cstddef>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <qwenguard.h>

/* What compilers say of -fno-exceptions: GCC and Clang by the first, MSVC by the second. */
#if !defined(QWENGUARD_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define QWENGUARD_NO_EXCEPTIONS
#endif

#ifndef QWENGUARD_NO_EXCEPTIONS
#include <stdexcept>
#endif

namespace qwenguard {

/* Parts of one program may choose differently: their functions have different names. */
#ifdef QWENGUARD_NO_EXCEPTIONS
inline namespace results {
#else
inline namespace exceptions {
#endif

/// How a call ended: see `qg_status`.
enum class Status : std::int32_t {
    Ok = QG_OK,
    RuntimeNotFound = QG_ERROR_RUNTIME_NOT_FOUND,
    RuntimeUnusable = QG_ERROR_RUNTIME_UNUSABLE,
    Provider = QG_ERROR_PROVIDER,
    Config = QG_ERROR_CONFIG,
    BundleFile = QG_ERROR_BUNDLE_FILE,
    BundleField = QG_ERROR_BUNDLE_FIELD,
    BundleFormat = QG_ERROR_BUNDLE_FORMAT,
    Conversation = QG_ERROR_CONVERSATION,
    Argument = QG_ERROR_ARGUMENT,
    WrongState = QG_ERROR_WRONG_STATE,
    ContextFull = QG_ERROR_CONTEXT_FULL,
    Busy = QG_ERROR_BUSY,
    OutOfMemory = QG_ERROR_OUT_OF_MEMORY,
    Inference = QG_ERROR_INFERENCE,
    EngineStopped = QG_ERROR_ENGINE_STOPPED,
    DeadlineExceeded = QG_ERROR_DEADLINE_EXCEEDED,
    Expired = QG_ERROR_EXPIRED,
    Cancelled = QG_ERROR_CANCELLED,
    Null = QG_ERROR_NULL,
    Enum = QG_ERROR_ENUM,
    InUse = QG_ERROR_IN_USE,
    Panic = QG_ERROR_PANIC,
};

/// What a host should do with a conversation.
enum class Decision : std::int32_t { Continue = QG_DECISION_CONTINUE, Stop = QG_DECISION_STOP };

/// How bad a text is.
enum class Risk : std::int32_t {
    Safe = QG_RISK_SAFE,
    Controversial = QG_RISK_CONTROVERSIAL,
    Unsafe = QG_RISK_UNSAFE,
};

/// What is to be done where a rule of the policy applies.
enum class Action : std::int32_t { Ignore = QG_ACTION_IGNORE, Flag = QG_ACTION_FLAG, Stop = QG_ACTION_STOP };

/// What an answer says, or the thinking before it.
enum class Channel : std::int32_t { Answer = QG_CHANNEL_ANSWER, Thinking = QG_CHANNEL_THINKING };

/// Why a second opinion was asked for.
enum class OpinionTrigger : std::int32_t { Violation = QG_TRIGGER_VIOLATION, Uncertain = QG_TRIGGER_UNCERTAIN };

/// What came of a second opinion.
enum class OpinionOutcome : std::int32_t {
    Confirmed = QG_OPINION_CONFIRMED,
    Lifted = QG_OPINION_LIFTED,
    Cleared = QG_OPINION_CLEARED,
    Reported = QG_OPINION_REPORTED,
    Failed = QG_OPINION_FAILED,
};

/// The model's heads that judge prompts, or answers.
enum class Heads : std::uint32_t { Prompt = QG_HEADS_PROMPT, Answer = QG_HEADS_ANSWER };

/// What of a conversation was judged: what the user asks, or what is answered.
enum class AnnotationMode : std::int32_t { Prompt = QG_MODE_PROMPT, Response = QG_MODE_RESPONSE };

/// How a verdict on a whole conversation is had of a model that writes it: see `QG_DECODING_CONSTRAINED`.
enum class Decoding : std::uint32_t {
    Constrained = QG_DECODING_CONSTRAINED,
    LabelOnly = QG_DECODING_LABEL_ONLY,
    Free = QG_DECODING_FREE,
};

/// What happens to a conversation that does not fit the model's context: see `QG_TEXT_OVERFLOW_REFUSE`.
enum class TextOverflow : std::uint32_t {
    Refuse = QG_TEXT_OVERFLOW_REFUSE,
    Head = QG_TEXT_OVERFLOW_HEAD,
    Tail = QG_TEXT_OVERFLOW_TAIL,
    Windows = QG_TEXT_OVERFLOW_WINDOWS,
};

/// What a verdict is about, where verdicts are counted.
enum class VerdictChannel : std::int32_t {
    Prompt = QG_VERDICT_CHANNEL_PROMPT,
    Thinking = QG_VERDICT_CHANNEL_THINKING,
    Answer = QG_VERDICT_CHANNEL_ANSWER,
    AnnotatedPrompt = QG_VERDICT_CHANNEL_ANNOTATED_PROMPT,
    AnnotatedResponse = QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE,
};

/// How grave a message of the log is: the graver, the smaller.
enum class LogLevel : std::uint32_t {
    Off = QG_LOG_OFF,
    Error = QG_LOG_ERROR,
    Warning = QG_LOG_WARNING,
    Info = QG_LOG_INFO,
    Debug = QG_LOG_DEBUG,
    Trace = QG_LOG_TRACE,
};

/// Why a call failed.
#ifdef QWENGUARD_NO_EXCEPTIONS
class Error {
public:
    Error(Status status, std::string message) : status_(status), message_(std::move(message)) {}
    const std::string &message() const noexcept { return message_; }
    Status status() const noexcept { return status_; }

private:
    Status status_;
    std::string message_;
};

/// A value, or why there is none. Asking for what is not there ends the program.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : error_(std::move(error)) {}
    explicit operator bool() const noexcept { return value_.has_value(); }
    T &value() & { return check(), *value_; }
    const T &value() const & { return check(), *value_; }
    T value() && { return check(), std::move(*value_); }
    T &operator*() & { return value(); }
    const T &operator*() const & { return value(); }
    T *operator->() { return &value(); }
    const T *operator->() const { return &value(); }
    const Error &error() const {
        if (!error_)
            std::abort();
        return *error_;
    }

private:
    void check() const {
        if (!value_)
            std::abort();
    }
    std::optional<T> value_;
    std::optional<Error> error_;
};
#else
class Error : public std::runtime_error {
public:
    Error(Status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    std::string message() const { return what(); }
    Status status() const noexcept { return status_; }

private:
    Status status_;
};

template <class T> using Result = T;
#endif

/// A view of values that somebody else owns, as std::span in C++20.
template <class T> class Span {
public:
    Span() noexcept = default;
    Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// Of anything with data() and size().
    template <class C, class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
    Span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}
    T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    T &operator[](std::size_t index) const noexcept { return data_[index]; }
    T *begin() const noexcept { return data_; }
    T *end() const noexcept { return data_ + size_; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// A part of an answer, in bytes: [start, end).
struct Bytes {
    std::size_t start = 0;
    std::size_t end = 0;
    std::size_t size() const noexcept { return end - start; }
};

/// What the model says at one position.
class Verdict {
public:
    explicit Verdict(const qg_verdict &raw) noexcept : raw_(raw) {}
    /// The most probable level.
    Risk risk() const noexcept { return static_cast<Risk>(raw_.risk); }
    /// Index of the most probable category; none where the risk is Safe.
    std::optional<std::uint32_t> category() const noexcept {
        return raw_.category < 0 ? std::nullopt : std::optional(static_cast<std::uint32_t>(raw_.category));
    }
    float probability(Risk risk) const noexcept { return raw_.risk_probabilities[static_cast<std::size_t>(risk)]; }
    /// By index. They sum to 1 whatever the risk, and mean nothing where it is Safe. The view is as long as the verdict.
    Span<const float> category_probabilities() const noexcept {
        return {raw_.category_probabilities, raw_.category_count};
    }

private:
    qg_verdict raw_;
};

/// What a policy found in a prompt.
struct Finding {
    Action action;
    Risk risk;
    /// Index among the categories of Heads::Prompt.
    std::uint32_t category;
    float probability;
};

/// The verdict on a prompt.
struct PromptCheck {
    Decision decision;
    std::optional<Finding> finding;
    Verdict verdict;
};

/// Where an answer turned.
struct Violation {
    Action action;
    Channel channel;
    Risk risk;
    /// Index among the categories of Heads::Answer.
    std::uint32_t category;
    float probability;
    Bytes bytes;
    std::size_t first_token;
    std::size_t confirming_token;
};

/// A second opinion on an answer: see `qg_opinion`.
struct Opinion {
    OpinionTrigger trigger;
    OpinionOutcome outcome;
    Channel channel;
    /// The level that it says. Nothing if it failed.
    std::optional<Risk> risk;
    /// Probability of each level, 0 to 1, by its Risk. All 0 if it failed.
    std::array<float, 3> risk_probabilities;
    /// What is in dispute. It is about all of the answer up to the end of that.
    Bytes bytes;
    std::size_t first_token;
    std::size_t confirming_token;
};

/// The result of a push: see `qg_update`.
struct Update {
    Decision decision;
    /// How many bytes of the answer may be shown.
    std::size_t horizon;
    std::size_t horizon_tokens;
    /// How many bytes of the answer were pushed so far.
    std::size_t received;
    /// How many of those a host that showed them has to take back.
    std::size_t excess;
    std::size_t final_tokens;
    /// How many tokens were judged now: Stream::tokens.
    std::size_t token_count;
    /// How many places were flagged now: Stream::flags.
    std::size_t flag_count;
    std::optional<Violation> violation;
    /// From which token on, by TokenVerdict::index, what was said earlier is void: see `qg_update`.
    std::size_t void_from;
    /// How many second opinions were asked for: Stream::opinions.
    std::size_t opinion_count;
};

/// One judged token of an answer.
struct TokenVerdict {
    /// Which token of the answer, from 0. Those around thinking count but are not judged.
    std::size_t index;
    Bytes bytes;
    std::uint32_t id;
    Channel channel;
    /// Whether no later text can change it.
    bool is_final;
    Verdict verdict;
};

/// A token of a text.
struct TextToken {
    std::uint32_t id;
    Bytes bytes;
};

/// What a guard has done, and how it is: see `qg_stats`.
using Stats = qg_stats;

/// How often a guard gave a verdict of one channel, level and category: see `qg_verdict_count`.
struct VerdictCount {
    VerdictChannel channel;
    Risk risk;
    /// Index among the categories of Heads::Prompt for prompts and annotated prompts, else of Heads::Answer; none of safe
    /// verdicts, and where none is known.
    std::optional<std::uint32_t> category;
    std::uint64_t verdicts;
    std::uint64_t stops;
    /// What was reported and let the answer go on.
    std::uint64_t flags;
};

/// A message of a conversation. It only looks at the texts.
struct Message {
    std::string_view role;
    std::string_view content;
    static Message system(std::string_view content) noexcept { return {"system", content}; }
    static Message user(std::string_view content) noexcept { return {"user", content}; }
    static Message assistant(std::string_view content) noexcept { return {"assistant", content}; }
};

/// How conversations are annotated.
struct AnnotateOptions {
    Decoding decoding = Decoding::Constrained;
    TextOverflow overflow = TextOverflow::Refuse;
};

/// What a policy found in an annotation.
struct AnnotationFinding {
    Action action;
    /// The level that it counts as.
    Risk risk;
    /// The category whose rule applies, or that is named; none if none is known.
    std::optional<std::string> category;
    float probability;
    /// The rule, by the names of its settings, such as "answer.strict".
    std::string rule;
};

/// What a policy makes of an annotation.
struct Judgement {
    Decision decision;
    std::optional<AnnotationFinding> finding;
};

/// How a guard is opened. 0 and empty: as the configuration says, else the default.
struct Options {
    /// Threads that compute one step.
    std::uint32_t threads = 0;
    /// Memory for keys and values of all streams together, in MiB.
    std::uint64_t cache_mib = 0;
    /// The configuration, a TOML document.
    std::string config_toml;
    /// Path of the ONNX Runtime library or of its folder, in UTF-8: utf8(path) of a std::filesystem::path.
    std::string runtime_library;
};

/// A path as the library takes it: in UTF-8, on every system.
inline std::string utf8(const std::filesystem::path &path) {
    const auto text = path.u8string(); // of char, or of char8_t from C++20 on
    return {reinterpret_cast<const char *>(text.data()), text.size()};
}

/// Takes a message of the log: its level, where it comes from, and what it says. The texts live as long as the call.
using LogFunction = std::function<void(LogLevel level, std::string_view target, std::string_view message)>;

/// Has messages of the library, and of ONNX Runtime as it uses it, given to a function, in place of the one before: those of
/// `level` and graver ones. An empty function switches it off. When this returns, the function before does not run any more.
///
/// It is called by any thread, also by several at once and by threads of the library, which wait for it: see `qg_log_callback`
/// for what it may call. An exception that it throws goes no further, and the message is lost.
Result<std::monostate> set_log(LogLevel level, LogFunction function);

/// The version of the library that is loaded, such as "0.1.0".
inline std::string_view version() noexcept { return qg_version(); }

/// Whether the library that is loaded has the binary interface of this header.
inline bool is_compatible() noexcept { return qg_abi_version() == QG_ABI_VERSION; }

/// "Safe", "Controversial" or "Unsafe".
inline std::string_view name(Risk risk) noexcept {
    const char *found = qg_risk_name(static_cast<std::int32_t>(risk));
    return found ? found : "";
}

/// The name of a status, such as "QG_ERROR_BUSY".
inline std::string_view name(Status status) noexcept {
    const char *found = qg_status_name(static_cast<std::int32_t>(status));
    return found ? found : "";
}

namespace detail {

struct Free {
    void operator()(qg_guard *guard) const noexcept { qg_guard_free(guard); }
    void operator()(qg_stream *stream) const noexcept { qg_stream_free(stream); }
    void operator()(qg_queue *queue) const noexcept { qg_queue_free(queue); }
    void operator()(qg_annotation *annotation) const noexcept { qg_annotation_free(annotation); }
    void operator()(qg_text *text) const noexcept { qg_text_free(text); }
    void operator()(qg_error *error) const noexcept { qg_error_free(error); }
};

template <class T> using Owned = std::unique_ptr<T, Free>;

template <class T> Result<T> failed(const Error &error) {
#ifdef QWENGUARD_NO_EXCEPTIONS
    return error;
#else
    throw error;
#endif
}

/// Makes a call that takes a place for an error; its value is made only if it succeeds.
template <class Call, class Value> auto result(Call call, Value value) -> Result<decltype(value())> {
    qg_error *raw = nullptr;
    const qg_status status = call(&raw);
    const Owned<qg_error> error(raw);
    if (status != QG_OK)
        return failed<decltype(value())>(Error(static_cast<Status>(status), qg_error_message(raw)));
    return value();
}

inline std::vector<qg_message> messages(Span<const Message> messages) {
    std::vector<qg_message> raw;
    raw.reserve(messages.size());
    for (const Message &message : messages)
        raw.push_back({message.role.data(), message.role.size(), message.content.data(), message.content.size()});
    return raw;
}

inline qg_annotate_options options(const AnnotateOptions &options) noexcept {
    return {sizeof(qg_annotate_options), static_cast<std::uint32_t>(options.decoding),
            static_cast<std::uint32_t>(options.overflow), 0};
}

inline std::vector<std::uint32_t> ids(Span<const TextToken> tokens) {
    std::vector<std::uint32_t> ids;
    ids.reserve(tokens.size());
    for (const TextToken &token : tokens)
        ids.push_back(token.id);
    return ids;
}

inline std::string text(qg_text *raw) {
    const Owned<qg_text> owned(raw);
    return {qg_text_data(raw), qg_text_length(raw)};
}

inline Violation violation(const qg_violation &raw) noexcept {
    return {static_cast<Action>(raw.action),
            static_cast<Channel>(raw.channel),
            static_cast<Risk>(raw.risk),
            static_cast<std::uint32_t>(raw.category),
            raw.probability,
            {static_cast<std::size_t>(raw.byte_start), static_cast<std::size_t>(raw.byte_end)},
            static_cast<std::size_t>(raw.first_token),
            static_cast<std::size_t>(raw.confirming_token)};
}

inline Update update(const qg_update &raw) noexcept {
    return {static_cast<Decision>(raw.decision),
            static_cast<std::size_t>(raw.horizon),
            static_cast<std::size_t>(raw.horizon_tokens),
            static_cast<std::size_t>(raw.received),
            static_cast<std::size_t>(raw.excess),
            static_cast<std::size_t>(raw.final_tokens),
            static_cast<std::size_t>(raw.token_count),
            static_cast<std::size_t>(raw.flag_count),
            raw.has_violation ? std::optional(violation(raw.violation)) : std::nullopt,
            static_cast<std::size_t>(raw.void_from),
            static_cast<std::size_t>(raw.opinion_count)};
}

inline Opinion opinion(const qg_opinion &raw) noexcept {
    return {static_cast<OpinionTrigger>(raw.trigger),
            static_cast<OpinionOutcome>(raw.outcome),
            static_cast<Channel>(raw.channel),
            raw.is_annotated ? std::optional(static_cast<Risk>(raw.risk)) : std::nullopt,
            {raw.risk_probabilities[0], raw.risk_probabilities[1], raw.risk_probabilities[2]},
            {static_cast<std::size_t>(raw.byte_start), static_cast<std::size_t>(raw.byte_end)},
            static_cast<std::size_t>(raw.first_token),
            static_cast<std::size_t>(raw.confirming_token)};
}

inline PromptCheck check(const qg_prompt_check &raw) noexcept {
    std::optional<Finding> finding;
    if (raw.has_finding)
        finding = Finding{static_cast<Action>(raw.action), static_cast<Risk>(raw.risk),
                          static_cast<std::uint32_t>(raw.category), raw.probability};
    return {static_cast<Decision>(raw.decision), finding, Verdict(raw.verdict)};
}

} // namespace detail

namespace detail {

/// Calls a function of C++ from C: nothing that it throws gets out.
template <class Function, class... Arguments> void guarded(const Function &function, Arguments... arguments) noexcept {
#ifdef QWENGUARD_NO_EXCEPTIONS
    function(arguments...);
#else
    try {
        function(arguments...);
    } catch (...) {
    }
#endif
}

inline void log(void *context, std::uint32_t level, const char *target, const char *message) noexcept {
    guarded(*static_cast<const LogFunction *>(context), static_cast<LogLevel>(level), std::string_view(target),
            std::string_view(message));
}

inline void wake(void *context) noexcept { guarded(*static_cast<const std::function<void()> *>(context)); }

/// The function of the log. It is never destroyed: at the end of the program threads may still call it.
struct LogSlot {
    std::mutex mutex;
    std::unique_ptr<LogFunction> function;
    static LogSlot &get() {
        static LogSlot *const slot = new LogSlot();
        return *slot;
    }
};

} // namespace detail

inline Result<std::monostate> set_log(LogLevel level, LogFunction function) {
    auto &slot = detail::LogSlot::get();
    const std::lock_guard<std::mutex> lock(slot.mutex);
    auto made = function ? std::make_unique<LogFunction>(std::move(function)) : nullptr;
    return detail::result(
        [&](qg_error **error) {
            return qg_log_set(made ? detail::log : nullptr, made.get(), static_cast<std::uint32_t>(level), error);
        },
        [&] {
            slot.function = std::move(made);
            return std::monostate();
        });
}

class Annotation;

/// One conversation being moderated.
class Stream {
public:
    /// Takes a stream of the C functions over.
    explicit Stream(qg_stream *raw) noexcept : raw_(raw) {}
    /// For the C functions. It stays this object's.
    qg_stream *get() const noexcept { return raw_.get(); }
    qg_stream *release() noexcept { return raw_.release(); }

    /// Gives the conversation, and judges its last message of the user: see qg_stream_prompt.
    Result<PromptCheck> prompt(Span<const Message> messages) { return check(qg_stream_prompt, messages); }
    Result<PromptCheck> prompt(std::initializer_list<Message> messages) {
        return prompt(Span<const Message>(messages.begin(), messages.size()));
    }
    /// Goes on with the conversation after finish().
    Result<PromptCheck> next_turn(Span<const Message> messages) { return check(qg_stream_next_turn, messages); }
    Result<PromptCheck> next_turn(std::initializer_list<Message> messages) {
        return next_turn(Span<const Message>(messages.begin(), messages.size()));
    }
    /// Gives the next piece of the answer, which may begin and end anywhere, and judges its tokens.
    Result<Update> push_text(std::string_view text) { return update(qg_stream_push_text, text.data(), text.size()); }
    /// As push_text, for a piece of thinking.
    Result<Update> push_thinking(std::string_view text) {
        return update(qg_stream_push_thinking, text.data(), text.size());
    }
    /// Gives the next tokens of the answer, from a model with the guard's own vocabulary.
    Result<Update> push_tokens(Span<const std::uint32_t> ids) {
        return update(qg_stream_push_tokens, ids.data(), ids.size());
    }
    Result<Update> push_tokens(std::initializer_list<std::uint32_t> ids) {
        return update(qg_stream_push_tokens, ids.begin(), ids.size());
    }
    /// The same with what Guard::encode gives.
    Result<Update> push_tokens(Span<const TextToken> tokens) { return push_tokens(detail::ids(tokens)); }
    /// Says that the answer is complete.
    Result<Update> finish() { return update(qg_stream_finish); }
    /// Cuts the answer back to its first bytes.
    Result<Update> truncate(std::size_t bytes) { return update(qg_stream_truncate, bytes); }
    /// Cuts the answer back to its first tokens.
    Result<Update> truncate_tokens(std::size_t tokens) { return update(qg_stream_truncate_tokens, tokens); }
    /// Another stream with the same conversation so far.
    Result<Stream> fork() const {
        qg_stream *made = nullptr;
        return detail::result([&](qg_error **error) { return qg_stream_fork(get(), &made, error); },
                              [&] { return Stream(made); });
    }
    /// Tokens of the model's context that the conversation uses so far.
    Result<std::size_t> context_used() const {
        std::size_t tokens = 0;
        return detail::result([&](qg_error **error) { return qg_stream_context_used(get(), &tokens, error); },
                              [&] { return tokens; });
    }

    /// The tokens that the last update judged. The view is good until the next call of tokens().
    Result<Span<const TokenVerdict>> tokens() {
        std::size_t count = 0;
        return detail::result(
            [&](qg_error **error) {
                qg_status status = qg_stream_tokens(get(), raw_tokens_.data(), raw_tokens_.size(), &count, error);
                if (status == QG_OK && count > raw_tokens_.size()) {
                    raw_tokens_.resize(count);
                    status = qg_stream_tokens(get(), raw_tokens_.data(), count, &count, error);
                }
                return status;
            },
            [&] {
                tokens_.clear();
                for (std::size_t index = 0; index < count; index++) {
                    const qg_token_verdict &raw = raw_tokens_[index];
                    tokens_.push_back({static_cast<std::size_t>(raw.index),
                                       {static_cast<std::size_t>(raw.byte_start), static_cast<std::size_t>(raw.byte_end)},
                                       raw.token_id,
                                       static_cast<Channel>(raw.channel),
                                       raw.is_final != 0,
                                       Verdict(raw.verdict)});
                }
                return Span<const TokenVerdict>(tokens_.data(), tokens_.size());
            });
    }
    /// The places that the last update found flagged.
    Result<std::vector<Violation>> flags() const {
        std::vector<qg_violation> raw;
        std::size_t count = 0;
        return detail::result(
            [&](qg_error **error) {
                qg_status status = qg_stream_flags(get(), nullptr, 0, &count, error);
                if (status == QG_OK && count > 0) {
                    raw.resize(count);
                    status = qg_stream_flags(get(), raw.data(), count, &count, error);
                }
                return status;
            },
            [&] {
                std::vector<Violation> flags;
                for (const qg_violation &flag : raw)
                    flags.push_back(detail::violation(flag));
                return flags;
            });
    }
    /// The second opinions that the last update asked for.
    Result<std::vector<Opinion>> opinions() const {
        std::vector<qg_opinion> raw;
        std::size_t count = 0;
        return detail::result(
            [&](qg_error **error) {
                qg_status status = qg_stream_opinions(get(), nullptr, 0, &count, error);
                if (status == QG_OK && count > 0) {
                    raw.resize(count);
                    status = qg_stream_opinions(get(), raw.data(), count, &count, error);
                }
                return status;
            },
            [&] {
                std::vector<Opinion> opinions;
                for (const qg_opinion &opinion : raw)
                    opinions.push_back(detail::opinion(opinion));
                return opinions;
            });
    }
    /// The rule behind the violation of the last update, or behind what the last prompt's verdict found.
    Result<std::string> rule() const {
        qg_text *text = nullptr;
        return detail::result([&](qg_error **error) { return qg_stream_rule(get(), &text, error); },
                              [&] { return detail::text(text); });
    }
    /// What one of the opinions of the last update says, judged by the policy's rules for its channel. Its categories are those
    /// of the guard that was asked. Of one that could not be had it is the error for which it could not.
    Result<Annotation> opinion_annotation(std::size_t opinion) const;
    /// The rule behind one of the flags of the last update.
    Result<std::string> flag_rule(std::size_t flag) const {
        qg_text *text = nullptr;
        return detail::result([&](qg_error **error) { return qg_stream_flag_rule(get(), flag, &text, error); },
                              [&] { return detail::text(text); });
    }

private:
    template <class Function, class... Arguments> Result<Update> update(Function function, Arguments... arguments) {
        qg_update raw;
        return detail::result([&](qg_error **error) { return function(get(), arguments..., &raw, error); },
                              [&] { return detail::update(raw); });
    }
    template <class Function> Result<PromptCheck> check(Function function, Span<const Message> messages) {
        const std::vector<qg_message> raw_messages = detail::messages(messages);
        qg_prompt_check raw;
        return detail::result(
            [&](qg_error **error) { return function(get(), raw_messages.data(), raw_messages.size(), &raw, error); },
            [&] { return detail::check(raw); });
    }

    detail::Owned<qg_stream> raw_;
    std::vector<qg_token_verdict> raw_tokens_;
    std::vector<TokenVerdict> tokens_;
};

/// The verdict on a whole conversation: a value, which needs no guard any more.
class Annotation {
public:
    /// Takes an annotation of the C functions over.
    explicit Annotation(qg_annotation *raw) : raw_(raw, detail::Free()) {
        qg_text *answer = nullptr;
        if (qg_annotation_get(raw, &info_, nullptr) != QG_OK)
            return;
        for (std::uint32_t index = 0; index < info_.mode_category_count; index++)
            names_.push_back(name(index));
        if (qg_annotation_answer(raw, &answer, nullptr) == QG_OK)
            answer_ = detail::text(answer);
        qg_judgement judged;
        qg_text *rule = nullptr;
        if (qg_annotation_judge(raw, nullptr, 0, &judged, &rule, nullptr) == QG_OK)
            finding_ = judgement(judged, rule).finding;
    }
    /// For the C functions. It stays this object's.
    const qg_annotation *get() const noexcept { return raw_.get(); }

    AnnotationMode mode() const noexcept { return static_cast<AnnotationMode>(info_.mode); }
    /// The level; of equally probable ones the gravest.
    Risk risk() const noexcept { return static_cast<Risk>(info_.risk); }
    /// Of a level; none with Decoding::Free.
    std::optional<float> probability(Risk risk) const noexcept {
        if (!info_.has_risk_probabilities)
            return std::nullopt;
        return info_.risk_probabilities[static_cast<std::size_t>(risk)];
    }
    /// The categories that are named, in the order in which the model names them.
    std::vector<std::string> categories() const {
        std::vector<std::string> named;
        for (std::uint32_t index = 0; index < info_.category_count; index++)
            named.push_back(names_.at(info_.categories[index]));
        return named;
    }
    /// All categories of the mode, by index.
    const std::vector<std::string> &category_names() const noexcept { return names_; }
    /// Of each category of being named first, by index; empty where that was not decided, as where the level is Safe. With
    /// none_probability() they sum to 1. The view is as long as the annotation.
    Span<const float> category_probabilities() const noexcept {
        return {info_.category_probabilities, info_.has_category_probabilities ? info_.mode_category_count : 0};
    }
    /// That no category is named. 0 where that was not decided.
    float none_probability() const noexcept { return info_.none_probability; }
    /// Whether the answer refuses; none where that is not known, as for prompts.
    std::optional<bool> refusal() const noexcept {
        return info_.refusal < 0 ? std::nullopt : std::optional(info_.refusal == 1);
    }
    /// Of refusing; none where that was not decided.
    std::optional<float> refusal_probability() const noexcept {
        return info_.has_refusal_probability ? std::optional(info_.refusal_probability) : std::nullopt;
    }
    /// Whether all lines of the answer could be read. False with Decoding::Free only.
    bool parsed() const noexcept { return info_.parsed == 1; }
    /// What the model writes; empty if it writes nothing.
    const std::string &answer() const noexcept { return answer_; }
    /// Which bytes of the last message were judged.
    Bytes judged() const noexcept {
        return {static_cast<std::size_t>(info_.judged_start), static_cast<std::size_t>(info_.judged_end)};
    }
    /// Whether that is a part of it only: see TextOverflow.
    bool is_cut() const noexcept { return info_.is_cut == 1; }
    /// How many windows of it were judged.
    std::size_t windows() const noexcept { return info_.windows; }
    /// How many tokens the model writes its answer to.
    std::size_t id_count() const noexcept { return static_cast<std::size_t>(info_.id_count); }
    /// What the policy of the guard makes of it.
    Decision decision() const noexcept { return static_cast<Decision>(info_.judgement.decision); }
    const std::optional<AnnotationFinding> &finding() const noexcept { return finding_; }

    /// The line of `qwenguard annotate`, without an id.
    Result<std::string> json() const {
        qg_text *json = nullptr;
        return detail::result([&](qg_error **error) { return qg_annotation_json(get(), &json, error); },
                              [&] { return detail::text(json); });
    }
    /// What another policy makes of it, a TOML document, without the model. An empty one means the guard's.
    Result<Judgement> judge(std::string_view policy_toml) const {
        qg_judgement judged;
        qg_text *rule = nullptr;
        return detail::result(
            [&](qg_error **error) {
                return qg_annotation_judge(get(), policy_toml.data(), policy_toml.size(), &judged, &rule, error);
            },
            [&] { return judgement(judged, rule); });
    }
    /// The reward of a response, by a rule: a TOML document, of which an empty one means the defaults. `helpfulness` is the
    /// score of a reward model. See `qg_annotation_reward`.
    Result<double> reward(std::string_view rule_toml = {}, double helpfulness = 0,
                          const Annotation *thinking = nullptr) const {
        double reward = 0;
        const qg_annotation *before = thinking ? thinking->get() : nullptr;
        return detail::result(
            [&](qg_error **error) {
                return qg_annotation_reward(get(), before, rule_toml.data(), rule_toml.size(), helpfulness, &reward, error);
            },
            [&] { return reward; });
    }

private:
    std::string name(std::uint32_t category) const {
        const char *name = nullptr;
        return qg_annotation_category_name(get(), category, &name, nullptr) == QG_OK ? name : "";
    }
    Judgement judgement(const qg_judgement &raw, qg_text *rule_text) const {
        std::string rule = detail::text(rule_text);
        std::optional<AnnotationFinding> finding;
        if (raw.has_finding) {
            std::optional<std::string> category;
            if (raw.category >= 0)
                category = names_.at(static_cast<std::size_t>(raw.category));
            finding = AnnotationFinding{static_cast<Action>(raw.action), static_cast<Risk>(raw.risk), std::move(category),
                                        raw.probability, std::move(rule)};
        }
        return {static_cast<Decision>(raw.decision), std::move(finding)};
    }

    std::shared_ptr<qg_annotation> raw_;
    qg_annotation_info info_ = {};
    std::vector<std::string> names_;
    std::string answer_;
    std::optional<AnnotationFinding> finding_;
};

inline Result<Annotation> Stream::opinion_annotation(std::size_t opinion) const {
    qg_annotation *annotation = nullptr;
    return detail::result(
        [&](qg_error **error) { return qg_stream_opinion_annotation(get(), opinion, &annotation, error); },
        [&] { return Annotation(annotation); });
}

/// One call of a stream, for call_all and Queue. It only looks at texts, tokens and what messages say.
class Call {
public:
    static Call prompt(Stream &stream, Span<const Message> messages) { return {stream, QG_CALL_PROMPT, messages}; }
    static Call next_turn(Stream &stream, Span<const Message> messages) {
        return {stream, QG_CALL_NEXT_TURN, messages};
    }
    static Call push_text(Stream &stream, std::string_view text) {
        return {stream, QG_CALL_PUSH_TEXT, text.data(), text.size()};
    }
    static Call push_thinking(Stream &stream, std::string_view text) {
        return {stream, QG_CALL_PUSH_THINKING, text.data(), text.size()};
    }
    static Call push_tokens(Stream &stream, Span<const std::uint32_t> ids) {
        return {stream, QG_CALL_PUSH_TOKENS, ids.data(), ids.size()};
    }
    /// With what Guard::encode gives, whose ids are copied.
    static Call push_tokens(Stream &stream, Span<const TextToken> tokens) {
        Call call(stream, QG_CALL_PUSH_TOKENS, nullptr, tokens.size());
        call.ids_ = detail::ids(tokens);
        return call;
    }
    static Call finish(Stream &stream) { return {stream, QG_CALL_FINISH, nullptr, 0}; }
    static Call truncate(Stream &stream, std::size_t bytes) { return {stream, QG_CALL_TRUNCATE, nullptr, bytes}; }
    static Call truncate_tokens(Stream &stream, std::size_t tokens) {
        return {stream, QG_CALL_TRUNCATE_TOKENS, nullptr, tokens};
    }
    /// For the C functions. It is good as long as the call.
    qg_call raw() const noexcept {
        qg_call raw = raw_;
        if (!messages_.empty())
            raw.data = messages_.data();
        else if (!ids_.empty())
            raw.data = ids_.data();
        return raw;
    }

private:
    Call(Stream &stream, std::uint32_t kind, const void *data, std::size_t length)
        : raw_{stream.get(), kind, 0, data, length} {}
    Call(Stream &stream, std::uint32_t kind, Span<const Message> messages)
        : raw_{stream.get(), kind, 0, nullptr, messages.size()}, messages_(detail::messages(messages)) {}

    qg_call raw_;
    std::vector<qg_message> messages_;
    std::vector<std::uint32_t> ids_;
};

/// What a call or an annotation answers. It fails as that did, or with Status::WrongState if it answers otherwise.
class Reply {
public:
    /// Takes the error and the annotation of the C functions over.
    explicit Reply(const qg_reply &raw, qg_annotation *annotation = nullptr) : raw_(raw) {
        if (annotation)
            annotation_ = Annotation(annotation);
        const detail::Owned<qg_error> error(raw.error);
        if (error)
            message_ = qg_error_message(raw.error);
        raw_.error = nullptr;
    }
    /// As above.
    explicit Reply(const qg_annotation_result &raw) : Reply(of(raw), raw.annotation) {}
    Status status() const noexcept { return static_cast<Status>(raw_.status); }
    /// Why it failed; empty if it did not.
    const std::string &message() const noexcept { return message_; }
    /// To a prompt or a next turn.
    Result<PromptCheck> check() const {
        if (!answers(1))
            return detail::failed<PromptCheck>(error());
        return detail::check(raw_.check);
    }
    /// To all other calls of a stream.
    Result<Update> update() const {
        if (!answers(0))
            return detail::failed<Update>(error());
        return detail::update(raw_.update);
    }
    /// Of Guard::annotate_all and Queue::annotate.
    Result<Annotation> annotation() const {
        if (!annotation_)
            return detail::failed<Annotation>(error());
        return *annotation_;
    }

private:
    static qg_reply of(const qg_annotation_result &result) noexcept {
        qg_reply raw = {};
        raw.status = result.status;
        raw.error = result.error;
        return raw;
    }
    bool answers(std::uint32_t is_check) const noexcept {
        return raw_.status == QG_OK && raw_.is_check == is_check && !annotation_;
    }
    Error error() const {
        return raw_.status == QG_OK ? Error(Status::WrongState, "the call has another kind of answer")
                                    : Error(status(), message_);
    }

    qg_reply raw_;
    std::string message_;
    std::optional<Annotation> annotation_;
};

/// Makes a call of each of many streams, which the model takes together, and waits for all of them. Replies are in the
/// order of the calls; one that fails leaves the others alone.
inline Result<std::vector<Reply>> call_all(Span<const Call> calls) {
    std::vector<qg_call> raw_calls;
    raw_calls.reserve(calls.size());
    for (const Call &call : calls)
        raw_calls.push_back(call.raw());
    std::vector<qg_reply> raw(calls.size());
    return detail::result(
        [&](qg_error **error) { return qg_streams_call(raw_calls.data(), raw_calls.size(), raw.data(), error); },
        [&] { return std::vector<Reply>(raw.begin(), raw.end()); });
}

/// A call that is done.
struct Completion {
    /// What the call was submitted with.
    std::uint64_t tag;
    /// Stream::get() of the stream, which is free for its next call. NULL for an annotation.
    qg_stream *stream;
    Reply reply;
};

class Guard;

/// Calls of streams, and annotations, that go on while the program does other things.
class Queue {
public:
    /// For as long as it takes.
    static constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

    /// Takes a queue of the C functions over.
    explicit Queue(qg_queue *raw) noexcept : raw_(raw) {}
    Queue(Queue &&) noexcept = default;
    /// What it had is freed before the function that is called for it.
    Queue &operator=(Queue &&other) noexcept {
        raw_ = std::move(other.raw_);
        wake_ = std::move(other.wake_);
        return *this;
    }
    ~Queue() = default;
    /// For the C functions. It stays this object's.
    qg_queue *get() const noexcept { return raw_.get(); }
    /// Gives it away. A function of set_wake is not called any more.
    qg_queue *release() noexcept {
        if (wake_)
            qg_queue_set_wake(get(), nullptr, nullptr, nullptr);
        wake_.reset();
        return raw_.release();
    }

    static Result<Queue> open() {
        qg_queue *made = nullptr;
        return detail::result([&](qg_error **error) { return qg_queue_open(&made, error); },
                              [&] { return Queue(made); });
    }
    /// Begins a call, which is cancelled if it is not done in time. Until it comes back its stream is in use.
    Result<std::monostate> submit(const Call &call, std::uint64_t tag,
                                  std::chrono::milliseconds timeout = forever) const {
        const qg_call raw = call.raw();
        return detail::result(
            [&](qg_error **error) { return qg_queue_submit(get(), &raw, tag, milliseconds(timeout), error); },
            [] { return std::monostate(); });
    }
    /// Begins to annotate a conversation, as Guard::annotate does: it comes back with Reply::annotation.
    Result<std::monostate> annotate(const Guard &guard, Span<const Message> messages, std::uint64_t tag,
                                    const AnnotateOptions &options = {},
                                    std::chrono::milliseconds timeout = forever) const;
    Result<std::monostate> annotate(const Guard &guard, std::initializer_list<Message> messages, std::uint64_t tag,
                                    const AnnotateOptions &options = {},
                                    std::chrono::milliseconds timeout = forever) const {
        return annotate(guard, Span<const Message>(messages.begin(), messages.size()), tag, options, timeout);
    }
    /// Waits for a call that is done, then takes all that are, but no more than `capacity`. None if the time passed.
    Result<std::vector<Completion>> wait(std::chrono::milliseconds timeout, std::size_t capacity = 64) const {
        std::vector<qg_completion> raw(capacity);
        std::size_t count = 0;
        return detail::result(
            [&](qg_error **error) {
                return qg_queue_wait(get(), milliseconds(timeout), raw.data(), capacity, &count, error);
            },
            [&] {
                std::vector<Completion> done;
                done.reserve(count);
                for (std::size_t index = 0; index < count; index++)
                    done.push_back(
                        {raw[index].tag, raw[index].stream, Reply(raw[index].reply, raw[index].annotation)});
                return done;
            });
    }
    /// Gives up the calls with this tag that are not done; they come back with Status::Cancelled. How many there were.
    Result<std::size_t> cancel(std::uint64_t tag) const {
        std::size_t count = 0;
        return detail::result([&](qg_error **error) { return qg_queue_cancel(get(), tag, &count, error); },
                              [&] { return count; });
    }
    /// What an event loop of the system waits for while there is nothing to take: on Unix a file descriptor that becomes
    /// readable, on Windows a HANDLE of an event. It stays the queue's: see `qg_queue_descriptor`.
    Result<std::int64_t> descriptor() const {
        std::int64_t descriptor = -1;
        return detail::result([&](qg_error **error) { return qg_queue_descriptor(get(), &descriptor, error); },
                              [&] { return descriptor; });
    }
    /// Has a function called when there is something to take, after there was nothing: by any thread, to wake the one that
    /// then takes all there is. It may call nothing of this library, and what it throws goes no further. An empty one
    /// switches it off: see `qg_queue_set_wake`.
    Result<std::monostate> set_wake(std::function<void()> function) {
        auto made = function ? std::make_unique<std::function<void()>>(std::move(function)) : nullptr;
        return detail::result(
            [&](qg_error **error) {
                return qg_queue_set_wake(get(), made ? detail::wake : nullptr, made.get(), error);
            },
            [&] {
                wake_ = std::move(made);
                return std::monostate();
            });
    }
    /// How many calls are not given back yet.
    Result<std::size_t> size() const {
        std::size_t calls = 0;
        return detail::result([&](qg_error **error) { return qg_queue_length(get(), &calls, error); },
                              [&] { return calls; });
    }

private:
    static std::uint64_t milliseconds(std::chrono::milliseconds timeout) noexcept {
        if (timeout == forever)
            return QG_NO_TIMEOUT;
        return timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count());
    }

    /* Freed after the queue, which may call it until then. */
    std::unique_ptr<std::function<void()>> wake_;
    detail::Owned<qg_queue> raw_;
};

/// An opened bundle.
class Guard {
public:
    /// Takes a guard of the C functions over.
    explicit Guard(qg_guard *raw) noexcept : raw_(raw) {}
    /// For the C functions. It stays this object's.
    qg_guard *get() const noexcept { return raw_.get(); }
    qg_guard *release() noexcept { return raw_.release(); }

    /// Opens the bundle in a folder.
    static Result<Guard> open(std::string_view bundle, const Options &options = {}) {
        return make(options, [bundle](const qg_guard_options *raw, qg_guard **guard, qg_error **error) {
            return qg_guard_open(bundle.data(), bundle.size(), raw, guard, error);
        });
    }
    /// The same of a std::filesystem::path.
    template <class Path, class = std::enable_if_t<std::is_same_v<Path, std::filesystem::path>>>
    static Result<Guard> open(const Path &bundle, const Options &options = {}) {
        return open(std::string_view(utf8(bundle)), options);
    }
    /// Opens the demonstration guard that is built in.
    static Result<Guard> nano(const Options &options = {}) { return make(options, qg_guard_open_nano); }
    /// Opens the built-in demonstration guard that annotates whole conversations. It has no streams.
    static Result<Guard> nano_gen(const Options &options = {}) { return make(options, qg_guard_open_nano_gen); }

    /// Lists every execution provider, as a JSON array: whether a guard can be opened on it here, its devices, and why not.
    static Result<std::string> providers(const Options &options = {}) {
        qg_text *json = nullptr;
        return detail::result(
            [&](qg_error **error) {
                return with(options, error, [&](const qg_guard_options *raw) { return qg_providers(raw, &json, error); });
            },
            [&] { return detail::text(json); });
    }

    /// Opens a stream with the guard's policy.
    Result<Stream> stream() const { return open_stream(nullptr, 0); }
    /// Opens a stream with a policy of its own, a TOML document. An empty one means the guard's policy.
    Result<Stream> stream(std::string_view policy_toml) const {
        return open_stream(policy_toml.data(), policy_toml.size());
    }
    /// Judges a whole conversation: what is asked, if the last message is the user's, else what is answered.
    Result<Annotation> annotate(Span<const Message> messages, const AnnotateOptions &options = {}) const {
        const std::vector<qg_message> raw_messages = detail::messages(messages);
        const qg_annotate_options raw_options = detail::options(options);
        qg_annotation *made = nullptr;
        return detail::result(
            [&](qg_error **error) {
                return qg_guard_annotate(get(), raw_messages.data(), raw_messages.size(), &raw_options, &made, error);
            },
            [&] { return Annotation(made); });
    }
    Result<Annotation> annotate(std::initializer_list<Message> messages, const AnnotateOptions &options = {}) const {
        return annotate(Span<const Message>(messages.begin(), messages.size()), options);
    }
    /// Judges many conversations together, which is much faster than one after the other. Replies are in their order; one
    /// that fails leaves the others alone.
    Result<std::vector<Reply>> annotate_all(Span<const std::vector<Message>> conversations,
                                            const AnnotateOptions &options = {}) const {
        std::vector<std::vector<qg_message>> messages;
        std::vector<qg_conversation> raw_conversations;
        messages.reserve(conversations.size());
        raw_conversations.reserve(conversations.size());
        for (const std::vector<Message> &conversation : conversations) {
            messages.push_back(detail::messages(conversation));
            raw_conversations.push_back({messages.back().data(), messages.back().size()});
        }
        const qg_annotate_options raw_options = detail::options(options);
        std::vector<qg_annotation_result> raw(conversations.size());
        return detail::result(
            [&](qg_error **error) {
                return qg_guard_annotate_all(get(), raw_conversations.data(), raw_conversations.size(), &raw_options,
                                             raw.data(), error);
            },
            [&] { return std::vector<Reply>(raw.begin(), raw.end()); });
    }
    /// What the guard has done, and how it is.
    Result<Stats> stats() const {
        Stats stats;
        return detail::result([&](qg_error **error) { return qg_guard_stats(get(), &stats, error); },
                              [&] { return stats; });
    }
    /// How often it gave which verdict, and what policies made of it.
    Result<std::vector<VerdictCount>> verdict_counts() const {
        std::vector<qg_verdict_count> raw;
        std::size_t count = 64;
        return detail::result(
            [&](qg_error **error) {
                qg_status status;
                do {
                    raw.resize(count);
                    status = qg_guard_verdict_counts(get(), raw.data(), raw.size(), &count, error);
                } while (status == QG_OK && count > raw.size());
                return status;
            },
            [&] {
                std::vector<VerdictCount> counts;
                for (std::size_t index = 0; index < count; index++) {
                    const qg_verdict_count &own = raw[index];
                    std::optional<std::uint32_t> category;
                    if (own.category >= 0)
                        category = static_cast<std::uint32_t>(own.category);
                    counts.push_back({static_cast<VerdictChannel>(own.channel), static_cast<Risk>(own.risk), category,
                                      own.verdicts, own.stops, own.flags});
                }
                return counts;
            });
    }
    /// The same, with histograms, in the text format of Prometheus.
    Result<std::string> metrics() const {
        qg_text *text = nullptr;
        return detail::result([&](qg_error **error) { return qg_guard_metrics(get(), &text, error); },
                              [&] { return detail::text(text); });
    }
    /// What the guard is made of, as a JSON object.
    Result<std::string> info() const {
        qg_text *json = nullptr;
        return detail::result([&](qg_error **error) { return qg_guard_info(get(), &json, error); },
                              [&] { return detail::text(json); });
    }
    /// The names of categories by their index, exactly as the checkpoint spells them. They live as long as the guard.
    Result<std::vector<std::string_view>> categories(Heads heads) const {
        std::vector<std::string_view> names;
        return detail::result(
            [&](qg_error **error) {
                std::uint32_t count = 0;
                const auto raw = static_cast<std::uint32_t>(heads);
                qg_status status = qg_guard_category_count(get(), raw, &count, error);
                for (std::uint32_t index = 0; status == QG_OK && index < count; index++) {
                    const char *name = nullptr;
                    status = qg_guard_category_name(get(), raw, index, &name, error);
                    if (status == QG_OK)
                        names.emplace_back(name);
                }
                return status;
            },
            [&] { return std::move(names); });
    }
    /// The name of one category. It lives as long as the guard.
    Result<std::string_view> category(Heads heads, std::uint32_t index) const {
        const char *name = nullptr;
        return detail::result(
            [&](qg_error **error) {
                return qg_guard_category_name(get(), static_cast<std::uint32_t>(heads), index, &name, error);
            },
            [&] { return std::string_view(name); });
    }
    /// The tokens of a text.
    Result<std::vector<TextToken>> encode(std::string_view text) const {
        std::vector<std::uint32_t> ids;
        std::vector<qg_span> spans;
        std::size_t count = 0;
        return detail::result(
            [&](qg_error **error) {
                qg_status status;
                count = text.size() / 2 + 8;
                do {
                    ids.resize(count);
                    spans.resize(count);
                    status = qg_guard_encode(get(), text.data(), text.size(), ids.data(), spans.data(), ids.size(),
                                             &count, error);
                } while (status == QG_OK && count > ids.size());
                return status;
            },
            [&] {
                std::vector<TextToken> tokens(count);
                for (std::size_t index = 0; index < count; index++)
                    tokens[index] = {ids[index],
                                     {static_cast<std::size_t>(spans[index].start),
                                      static_cast<std::size_t>(spans[index].end)}};
                return tokens;
            });
    }
    /// The bytes that a token stands for. They live as long as the guard.
    Result<std::string_view> token_bytes(std::uint32_t token) const {
        const std::uint8_t *bytes = nullptr;
        std::size_t length = 0;
        return detail::result(
            [&](qg_error **error) { return qg_guard_token_bytes(get(), token, &bytes, &length, error); },
            [&] { return std::string_view(reinterpret_cast<const char *>(bytes), length); });
    }

private:
    template <class Call> static qg_status with(const Options &options, qg_error **error, Call call) {
        qg_guard_options raw;
        const qg_status status = qg_guard_options_init(&raw, sizeof raw, error);
        if (status != QG_OK)
            return status;
        raw.threads = options.threads;
        raw.cache_mib = options.cache_mib;
        raw.config_toml = options.config_toml.data();
        raw.config_toml_length = options.config_toml.size();
        raw.runtime_library = options.runtime_library.data();
        raw.runtime_library_length = options.runtime_library.size();
        return call(&raw);
    }
    template <class Open> static Result<Guard> make(const Options &options, Open open) {
        qg_guard *made = nullptr;
        return detail::result(
            [&](qg_error **error) {
                return with(options, error,
                            [&](const qg_guard_options *raw) { return open(raw, &made, error); });
            },
            [&] { return Guard(made); });
    }
    Result<Stream> open_stream(const char *policy, std::size_t length) const {
        qg_stream *made = nullptr;
        return detail::result([&](qg_error **error) { return qg_stream_open(get(), policy, length, &made, error); },
                              [&] { return Stream(made); });
    }

    detail::Owned<qg_guard> raw_;
};

inline Result<std::monostate> Queue::annotate(const Guard &guard, Span<const Message> messages, std::uint64_t tag,
                                              const AnnotateOptions &options, std::chrono::milliseconds timeout) const {
    const std::vector<qg_message> raw_messages = detail::messages(messages);
    const qg_annotate_options raw_options = detail::options(options);
    return detail::result(
        [&](qg_error **error) {
            return qg_queue_annotate(get(), guard.get(), raw_messages.data(), raw_messages.size(), &raw_options, tag,
                                     milliseconds(timeout), error);
        },
        [] { return std::monostate(); });
}

} // inline namespace
} // namespace qwenguard

#endif
