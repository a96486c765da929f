/*
 * libqwenguard: moderation with Qwen3Guard-Stream and Qwen3Guard-Gen.
 *
 * A guard model judges a conversation while a language model is still writing. Open a guard once;
 * open a stream for each conversation; give it the prompt, then the answer as it is produced; and
 * show no more of the answer than the horizon allows:
 *
 *     #include <qwenguard.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     int main(void) {
 *         const char *question = "How do I clean the kitchen?", *piece = "Wipe the counters.";
 *         qg_guard *guard = NULL;
 *         qg_stream *stream = NULL;
 *         qg_error *error = NULL;
 *         qg_message message = {"user", 4, question, strlen(question)};
 *         qg_prompt_check check;
 *         qg_update update;
 *         if (qg_guard_open_nano(NULL, &guard, &error) == QG_OK
 *             && qg_stream_open(guard, NULL, 0, &stream, &error) == QG_OK
 *             && qg_stream_prompt(stream, &message, 1, &check, &error) == QG_OK
 *             && qg_stream_push_text(stream, piece, strlen(piece), &update, &error) == QG_OK
 *             && qg_stream_finish(stream, &update, &error) == QG_OK)
 *             printf("%.*s%s\n", (int)update.horizon, piece,
 *                    update.decision == QG_DECISION_STOP ? " [cut]" : "");
 *         else
 *             fprintf(stderr, "%s\n", qg_error_message(error));
 *         qg_error_free(error);
 *         qg_stream_free(stream);
 *         qg_guard_free(guard);
 *         return 0;
 *     }
 *
 * Whole conversations that are there already are judged by qg_guard_annotate, with bundles of
 * Qwen3Guard-Gen, too.
 *
 * FUNCTIONS that can fail return a qg_status and take, as their last argument, a place for an error
 * object, or NULL if you do not want one. That place need not hold anything before the call;
 * afterwards it holds NULL, or an error that is yours to free with qg_error_free. Arguments come in
 * the order object, inputs, outputs, error. Outputs are written only on success, and none may be
 * NULL unless its function says so. A call that fails changes nothing: a stream stays as it was.
 * No failure ends the process, and a NULL where none may be is an error as any other.
 *
 * Those of the engine, which any call that computes can have: QG_ERROR_BUSY if too many tokens wait,
 * QG_ERROR_EXPIRED, QG_ERROR_OUT_OF_MEMORY, QG_ERROR_INFERENCE and QG_ERROR_ENGINE_STOPPED.
 *
 * IDLE STREAMS lose their conversation after the engine.idle_seconds of the configuration; 0, the
 * default, means never. A stream is in use during each of its calls, from when the call reaches it to
 * when you have the result, also out of a queue: qg_stream_prompt, qg_stream_next_turn, those that
 * push, qg_stream_finish, those that truncate, and qg_stream_fork for the stream that is forked,
 * whether or not there was something to compute and whether or not the call failed. A call that fails
 * before, with QG_ERROR_NULL, QG_ERROR_ENUM or QG_ERROR_IN_USE or for messages that are not UTF-8, is
 * no use, and neither are functions that only tell something. Every such call of an expired stream
 * fails with QG_ERROR_EXPIRED; what only tells something goes on telling what it did.
 *
 * OWNERSHIP. What a function gives through a pointer to a pointer of qg_guard, qg_stream, qg_queue,
 * qg_annotation, qg_text or qg_error is yours: free it with the function of its name, once. So are the
 * errors and annotations in replies, results and completions. Freeing NULL does nothing. Objects can be
 * freed in any order, a guard before its streams too: each keeps what it needs. What you give is read
 * during the call and not kept. A const pointer that you are given belongs to the object that it was
 * asked of and lives as long as that.
 *
 * TEXT is UTF-8, given as pointer and length in bytes, so it may hold NUL characters and need not
 * end with one. NULL is fine where the length is 0. Texts that the library gives do end with a NUL.
 *
 * THREADS. What is done with a pointer to const may be done by several threads at once: guards and
 * queues are for all threads. A stream may move between threads, but functions that take it without
 * const must have it for themselves; a call that finds another one going on returns QG_ERROR_IN_USE.
 * Freeing needs the object for itself: nothing checks that. Calls that compute wait for it: a push
 * takes as long as the model does, together with the pushes of other threads to other streams of
 * the guard. A program that has many streams gives them together to qg_streams_call, conversations to
 * qg_guard_annotate_all, or either to a queue, which does not wait. There is nothing to start or to shut
 * down.
 *
 * PROCESSES. After fork() guards, streams and queues stay with the parent: in the child every function
 * of them returns QG_ERROR_ENGINE_STOPPED at once, and freeing them does nothing, so that exit() is
 * safe. Errors, texts and annotations are memory like any other. The child may open a guard of its own.
 * fork() waits while other threads open guards, 30 seconds at most; a child that was forked in the
 * middle all the same cannot open one. fork() and exec, and posix_spawn, need no care.
 *
 * EVENT LOOPS wait for the descriptor of a queue (qg_queue_descriptor), or are woken by a callback
 * (qg_queue_set_wake). LOG: messages go nowhere until a function of the log asks for them
 * (qg_log_set, qg_log_open). Those callbacks are called by any thread, also by threads of the
 * library, which wait for them: they say what they may do.
 *
 * PRIVACY. The library sends nothing and writes no file. The builds of ONNX Runtime 1.29 and newer from its
 * maker report about their use unless ORT_DISABLE_TELEMETRY=1 is in the environment before the process
 * starts; a guard refuses to open with one that would. A program that loads such a build itself must
 * set the variable.
 *
 * UNITS. Lengths and places in answers are bytes, ends are exclusive, and both count from the start
 * of the answer with everything that was pushed. Probabilities are 0 to 1.
 *
 * NUMBERS that name something (QG_DECISION_, QG_RISK_ and so on) never change their meaning; later
 * versions may add some.
 *
 * COMPATIBILITY. Programs keep working with later libraries of the same QG_ABI_VERSION. Structs that
 * you fill and that may grow begin with their size; structs that the library fills keep their size,
 * and later fields take the place of reserved ones, where 0 means that nothing is said.
 *
 * UNLOADING. ONNX Runtime stays in the process once it was loaded, and so does this library once a
 * guard was opened: on Unix dlclose then leaves it in memory, and it can be opened again and again.
 * Elsewhere do not unload it. Guards and streams must be freed before the last dlclose or not at all.
 *
 * Before the first major version QG_ABI_VERSION may change with any minor one.
 */


#ifndef QWENGUARD_H
#define QWENGUARD_H

/* Generated from src/ffi by build.rs: change it there. */

#include <stddef.h>
#include <stdint.h>

/// The version of this header: major part.
#define QG_VERSION_MAJOR 0

/// The version of this header: minor part.
#define QG_VERSION_MINOR 1

/// The version of this header: patch part.
#define QG_VERSION_PATCH 0

/// The version of this header as one number: major * 1000000 + minor * 1000 + patch.
#define QG_VERSION_NUMBER (((QG_VERSION_MAJOR * 1000000) + (QG_VERSION_MINOR * 1000)) + QG_VERSION_PATCH)

/// The binary interface of this header. It changes when a program that was built with an older header would no longer work.
#define QG_ABI_VERSION 1

/// It worked.
#define QG_OK 0

/// The ONNX Runtime library was found nowhere; the message lists where. Set ORT_DYLIB_PATH or
/// `qg_guard_options.runtime_library`, or put it beside the library.
#define QG_ERROR_RUNTIME_NOT_FOUND 1

/// An ONNX Runtime library was found but cannot be used: too old, not loadable, or not the one that the process uses
/// already.
#define QG_ERROR_RUNTIME_UNUSABLE 2

/// The execution provider that was asked for cannot be had here, or its device was lost.
#define QG_ERROR_PROVIDER 3

/// A setting of the configuration or of a policy is wrong; the message names it.
#define QG_ERROR_CONFIG 4

/// A file of the bundle is missing, unreadable or damaged, or was changed while the bundle was opened.
#define QG_ERROR_BUNDLE_FILE 5

/// The bundle's guard.toml says something that this library cannot accept, or a self-test that is written there failed:
/// the bundle is damaged, or this machine computes wrong.
#define QG_ERROR_BUNDLE_FIELD 6

/// The bundle was made in a format that this version does not read.
#define QG_ERROR_BUNDLE_FORMAT 7

/// The conversation cannot be rendered, or there is nothing in it to judge.
#define QG_ERROR_CONVERSATION 8

/// An argument is out of its documented range; the message names it.
#define QG_ERROR_ARGUMENT 9

/// The call has no meaning at this moment, such as an answer before its prompt.
#define QG_ERROR_WRONG_STATE 10

/// The conversation does not fit the model's context, or the KV cache if that is smaller. Nothing was added.
#define QG_ERROR_CONTEXT_FULL 11

/// A limit is reached that passes with time: as other calls end, or streams are freed. Try again later.
#define QG_ERROR_BUSY 12

/// Memory could not be had.
#define QG_ERROR_OUT_OF_MEMORY 13

/// ONNX Runtime failed to load or run the graph, or the model's logits for the tokens are not finite: the bundle, which is
/// then named, is damaged, or this machine computes wrong.
#define QG_ERROR_INFERENCE 14

/// The guard's engine has stopped after a failure it could not contain, or the guard, stream or queue was made in the process
/// that this one was forked from. Open the guard again.
#define QG_ERROR_ENGINE_STOPPED 15

/// The deadline of the call passed before its tokens were computed. Nothing was added; try again with more time.
#define QG_ERROR_DEADLINE_EXCEEDED 16

/// The stream was idle for longer than the configuration allows. Open a new one and give it the conversation again.
#define QG_ERROR_EXPIRED 17

/// The call was cancelled by `qg_queue_cancel`. Nothing was added.
#define QG_ERROR_CANCELLED 18

/// A pointer is NULL that must not be; the message names the argument.
#define QG_ERROR_NULL 100

/// A number is none of the values that the argument can have; the message names the argument.
#define QG_ERROR_ENUM 101

/// Another thread is using the stream, or it is in a queue: a stream has one user at a time.
#define QG_ERROR_IN_USE 102

/// A bug of the library. The stream that it happened on stays unusable and gives this status from then on; free it.
#define QG_ERROR_PANIC 103

/// The conversation may go on.
#define QG_DECISION_CONTINUE 0

/// Stop writing, and show nothing past the horizon.
#define QG_DECISION_STOP 1

/// Harmless.
#define QG_RISK_SAFE 0

/// Harmful in some contexts or to some readers.
#define QG_RISK_CONTROVERSIAL 1

/// Harmful.
#define QG_RISK_UNSAFE 2

/// Nothing is to be done: no rule of the policy applies.
#define QG_ACTION_IGNORE 0

/// Report it and go on.
#define QG_ACTION_FLAG 1

/// Stop.
#define QG_ACTION_STOP 2

/// What the answer says.
#define QG_CHANNEL_ANSWER 0

/// The thinking before it.
#define QG_CHANNEL_THINKING 1

/// A violation was confirmed.
#define QG_TRIGGER_VIOLATION 0

/// Tokens were uncertain.
#define QG_TRIGGER_UNCERTAIN 1

/// It found something: the violation stands, or uncertain tokens are one.
#define QG_OPINION_CONFIRMED 0

/// It found nothing: the violation is lifted.
#define QG_OPINION_LIFTED 1

/// It found nothing: uncertain tokens do not count any more.
#define QG_OPINION_CLEARED 2

/// By the policy it changes nothing.
#define QG_OPINION_REPORTED 3

/// It could not be had: the violation stands, or uncertain tokens count as one, unless by the policy it changes nothing.
#define QG_OPINION_FAILED 4

/// The labels of the model's heads that judge prompts.
#define QG_HEADS_PROMPT 0

/// The labels of the model's heads that judge answers, thinking included.
#define QG_HEADS_ANSWER 1

/// The most categories that a verdict can carry. A bundle with more is refused.
#define QG_MAX_CATEGORIES 16

/// The prompt of a stream.
#define QG_VERDICT_CHANNEL_PROMPT 0

/// A token of an answer's thinking.
#define QG_VERDICT_CHANNEL_THINKING 1

/// A token of what an answer says.
#define QG_VERDICT_CHANNEL_ANSWER 2

/// A whole conversation, by what the user asks.
#define QG_VERDICT_CHANNEL_ANNOTATED_PROMPT 3

/// A whole conversation, by what is answered.
#define QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE 4

/// `qg_stream_prompt`: `data` is an array of `qg_message`.
#define QG_CALL_PROMPT 0

/// `qg_stream_next_turn`: `data` is an array of `qg_message`.
#define QG_CALL_NEXT_TURN 1

/// `qg_stream_push_text`: `data` is text.
#define QG_CALL_PUSH_TEXT 2

/// `qg_stream_push_thinking`: `data` is text.
#define QG_CALL_PUSH_THINKING 3

/// `qg_stream_push_tokens`: `data` is an array of uint32_t.
#define QG_CALL_PUSH_TOKENS 4

/// `qg_stream_finish`: `data` and `length` are not used.
#define QG_CALL_FINISH 5

/// `qg_stream_truncate`: `length` is how many bytes stay; `data` is not used.
#define QG_CALL_TRUNCATE 6

/// `qg_stream_truncate_tokens`: `length` is how many tokens stay; `data` is not used.
#define QG_CALL_TRUNCATE_TOKENS 7

/// What the user asks was judged: the last message is the user's. Categories are those of `QG_HEADS_PROMPT`.
#define QG_MODE_PROMPT 0

/// What is answered was judged: the last message is of any other role. Categories are those of `QG_HEADS_ANSWER`.
#define QG_MODE_RESPONSE 1

/// Held to the answer's grammar: the model decides where it can say different things, the rest is given. Always gives a
/// verdict, and probabilities of all decisions.
#define QG_DECODING_CONSTRAINED 0

/// Held to the grammar, and only the level is decided: one run of the model, without categories and refusal.
#define QG_DECODING_LABEL_ONLY 1

/// As the official code has it: the likeliest token each time, up to 128 tokens or the end, and what can be read in them.
/// Slower by far, and without probabilities.
#define QG_DECODING_FREE 2

/// A conversation that does not fit the model's context is an error.
#define QG_TEXT_OVERFLOW_REFUSE 0

/// The beginning of its last message is judged: as many of the text's tokens as fit, cut between characters. No other message
/// is ever cut: if they leave room for fewer than 16 tokens of it, that is QG_ERROR_CONTEXT_FULL.
#define QG_TEXT_OVERFLOW_HEAD 1

/// The end of its last message is judged.
#define QG_TEXT_OVERFLOW_TAIL 2

/// All of its last message is judged, in windows that are as long as fits and overlap by a quarter, each after all other
/// messages. The annotation is that of the gravest window; whether the answer refuses is said by the first one.
#define QG_TEXT_OVERFLOW_WINDOWS 3

/// For as long as it takes.
#define QG_NO_TIMEOUT UINT64_MAX

/// Nothing.
#define QG_LOG_OFF 0

/// Something failed that should not: a step, a device.
#define QG_LOG_ERROR 1

/// Something that may be wrong: a setting, or what ONNX Runtime warns of.
#define QG_LOG_WARNING 2

/// What happens seldom: what was loaded, and what computes.
#define QG_LOG_INFO 3

/// What happens often, and most of what ONNX Runtime says.
#define QG_LOG_DEBUG 4

/// Everything.
#define QG_LOG_TRACE 5

/// The verdict on a whole conversation. It needs no guard any more, and is memory like any other. Yours to free.
typedef struct qg_annotation qg_annotation;

/// Why a call failed: a status and a message. Yours to free.
typedef struct qg_error qg_error;

/// An opened bundle: heavy, shared, for any number of threads at once.
typedef struct qg_guard qg_guard;

/// Messages that are kept until they are taken, by a thread of yours: for hosts in which threads of others cannot call.
typedef struct qg_log qg_log;

/// Calls of streams, and annotations, that go on while the program does other things. For any number of threads at once.
typedef struct qg_queue qg_queue;

/// One conversation being moderated: light, one user at a time.
typedef struct qg_stream qg_stream;

/// A text that the library made for you: UTF-8. Yours to free.
typedef struct qg_text qg_text;

/// How a call ended: `QG_OK` or one of the `QG_ERROR_` values. New values may be added; treat one that you do not know as
/// an error.
typedef int32_t qg_status;

/// How a guard is opened. Fill it with `qg_guard_options_init`, or with zeros and its size; then set what you want
/// differently. The configuration has 1 MiB at most.
typedef struct qg_guard_options {
    /// sizeof(qg_guard_options). It tells which version of this struct the program was built with.
    uint32_t struct_size;
    /// Threads that compute one step, 1024 at most. 0: as the configuration says, else one per core.
    uint32_t threads;
    /// Memory for keys and values of all streams together, in MiB. 0: as the configuration says, else by the machine's
    /// memory. Pages are taken from the system as they are first used.
    uint64_t cache_mib;
    /// The configuration, a TOML document, in UTF-8: policies, limits, everything else. It need not end with a NUL. NULL: the
    /// default. The fields above and below go before it.
    const char *config_toml;
    /// Its length in bytes.
    size_t config_toml_length;
    /// Path of the ONNX Runtime library or of the folder it is in, in UTF-8. It need not end with a NUL. NULL: the variable
    /// ORT_DYLIB_PATH, then one that is loaded already, then beside this library, then the system's folders.
    const char *runtime_library;
    /// Its length in bytes.
    size_t runtime_library_length;
} qg_guard_options;

/// A part of a text, in bytes.
typedef struct qg_span {
    /// Where it begins.
    uint64_t start;
    /// Where it ends: the first byte after it.
    uint64_t end;
} qg_span;

/// What a guard has done since it was opened, and how it is now. It is healthy while `oldest_wait_seconds` stays small: that
/// grows if steps hang, even when nothing else shows it.
typedef struct qg_stats {
    /// Streams that are open.
    uint64_t open_streams;
    /// Streams that wait for an answer.
    uint64_t waiting_streams;
    /// Tokens that were given and are not computed.
    uint64_t queued_tokens;
    /// For how long the stream that waits longest has waited, in seconds. 0 if none waits.
    double oldest_wait_seconds;
    /// Steps: runs of the model over the new tokens of one or more streams.
    uint64_t steps;
    /// Steps that failed.
    uint64_t failed_steps;
    /// Time of all steps, in seconds.
    double step_seconds;
    /// Tokens in all steps.
    uint64_t tokens;
    /// Of those, tokens whose stream had computed them before and lost them to others.
    uint64_t recomputed_tokens;
    /// Tokens that were not computed because the cache had them from an equal prefix.
    uint64_t prefix_hit_tokens;
    /// How often a stream lost its part of the cache to others.
    uint64_t evictions;
    /// Streams that expired because they were idle.
    uint64_t expired_streams;
    /// The most bytes that keys and values may take.
    uint64_t cache_bytes;
    /// Bytes of the cache that open streams use.
    uint64_t cache_used_bytes;
    /// Bytes of the cache that no stream uses, but whose tokens are found if they come again. They are available.
    uint64_t cache_unused_bytes;
    /// Second opinions that were asked for. Those that are none of the following are still awaited, or their calls were
    /// cancelled.
    uint64_t opinions;
    /// Of those, how many confirmed what was in dispute.
    uint64_t confirmed_opinions;
    /// How many lifted a violation or cleared what was uncertain.
    uint64_t lifted_opinions;
    /// How many were only reported.
    uint64_t reported_opinions;
    /// How many could not be had.
    uint64_t failed_opinions;
    /// Time of all second opinions, each from when it was asked for, in seconds.
    double opinion_seconds;
    /// 0.
    uint64_t reserved[3];
} qg_stats;

/// How often a guard gave a verdict of one channel, level and category, and what policies made of it.
typedef struct qg_verdict_count {
    /// What was judged: `QG_VERDICT_CHANNEL_`.
    int32_t channel;
    /// The level, `QG_RISK_`: of a verdict the most probable one, of a stop or a flag the one that it counts as.
    int32_t risk;
    /// Index of the category, among those of `QG_HEADS_PROMPT` where the channel is a prompt or an annotated one, else of
    /// `QG_HEADS_ANSWER`; -1 of safe verdicts, and where none is known.
    int32_t category;
    /// 0.
    uint32_t reserved;
    /// Final verdicts: one for each prompt, for each token of an answer and for each annotation. Tokens that are judged again
    /// after an answer was cut back count again.
    uint64_t verdicts;
    /// How often a host was told to stop: a prompt, an answer or an annotation whose decision became `QG_DECISION_STOP`.
    uint64_t stops;
    /// What was reported and let the answer go on: flags, and in shadow mode what would have stopped.
    uint64_t flags;
} qg_verdict_count;

/// A message of a conversation.
typedef struct qg_message {
    /// "system" or "developer", which is the same, "user", "assistant", "tool" or what else the model's template knows, in
    /// UTF-8: exactly so, and at most 64 bytes. It need not end with a NUL.
    const char *role;
    /// Its length in bytes.
    size_t role_length;
    /// The text, in UTF-8. It need not end with a NUL. Special tokens in it, such as <|im_end|>, are text: nobody can close
    /// their own turn.
    const char *content;
    /// Its length in bytes.
    size_t content_length;
} qg_message;

/// What the model says at one position.
typedef struct qg_verdict {
    /// The most probable level: `QG_RISK_`.
    int32_t risk;
    /// Index of the most probable category, or -1 while the risk is `QG_RISK_SAFE`. Its name is
    /// `qg_guard_category_name`'s.
    int32_t category;
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1.
    float risk_probabilities[3];
    /// How many categories the model has.
    uint32_t category_count;
    /// Probability of each category, 0 to 1. They sum to 1 whatever the risk, and mean nothing while it is
    /// `QG_RISK_SAFE`. Those from `category_count` on are 0.
    float category_probabilities[16];
    /// 0.
    uint32_t reserved[2];
} qg_verdict;

/// The verdict on a prompt.
typedef struct qg_prompt_check {
    /// What the policy makes of it: `QG_DECISION_`.
    int32_t decision;
    /// 1 if a rule of the policy applies, else 0 and the four fields that follow are 0.
    uint32_t has_finding;
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    int32_t action;
    /// The level that it counts as: `QG_RISK_`.
    int32_t risk;
    /// Index of the category, among those of `QG_HEADS_PROMPT`.
    int32_t category;
    /// Probability of the level, 0 to 1.
    float probability;
    /// What the model says about the message that is judged, in the light of all before it.
    struct qg_verdict verdict;
    /// 0.
    uint64_t reserved[2];
} qg_prompt_check;

/// Where an answer turned. Bytes and tokens count from the start of the answer, tags and thinking included.
typedef struct qg_violation {
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    int32_t action;
    /// Whether it is in the thinking: `QG_CHANNEL_`.
    int32_t channel;
    /// The level that it counts as: `QG_RISK_`.
    int32_t risk;
    /// Index of the category, among those of `QG_HEADS_ANSWER`.
    int32_t category;
    /// Where the first token that counts begins, in bytes.
    uint64_t byte_start;
    /// Where the token that confirmed it ends, in bytes.
    uint64_t byte_end;
    /// The first token that counts.
    uint64_t first_token;
    /// The token that confirmed it. Level, category and probability are those of its verdict, or of what a second opinion
    /// confirmed at it.
    uint64_t confirming_token;
    /// Probability of the level, 0 to 1.
    float probability;
    /// 0.
    uint32_t reserved[3];
} qg_violation;

/// The result of a push.
typedef struct qg_update {
    /// Whether the answer may go on: `QG_DECISION_`. Once it is `QG_DECISION_STOP` it stays so, until the answer is cut
    /// back.
    int32_t decision;
    /// 1 if `violation` says something, else 0 and it is all 0.
    uint32_t has_violation;
    /// How many bytes of the answer may be shown: whole characters only, and none of a violation. For an answer that
    /// grows it never moves back.
    uint64_t horizon;
    /// How many tokens of the answer are within the horizon.
    uint64_t horizon_tokens;
    /// How many bytes of the answer were pushed so far.
    uint64_t received;
    /// For a host that shows text as it comes: how many of those bytes it has to take back. 0 while the answer may go
    /// on.
    uint64_t excess;
    /// How many tokens of the answer are final. Those after them are provisional: the next text may merge with them.
    uint64_t final_tokens;
    /// How many tokens were judged now: `qg_stream_tokens` copies their verdicts.
    uint64_t token_count;
    /// How many places rules of the policy flag, found now: `qg_stream_flags` copies them.
    uint64_t flag_count;
    /// Where the answer must stop, found now or in an earlier push.
    struct qg_violation violation;
    /// From which token on, by `qg_token_verdict.index`, what was said earlier is void: verdicts, and flags that such a
    /// token confirmed. The tokens judged now take their place, if the answer still has as many. Where nothing is void
    /// this is how many tokens the answer had before the call, those that are not judged included.
    uint64_t void_from;
    /// How many second opinions were asked for: `qg_stream_opinions` copies them.
    uint64_t opinion_count;
    /// 0.
    uint64_t reserved[2];
} qg_update;

/// One judged token of an answer.
typedef struct qg_token_verdict {
    /// Which token of the answer, from 0. Those around thinking count but are not judged. See
    /// `qg_update.void_from` for which earlier ones it takes the place of.
    uint64_t index;
    /// Where the bytes of the answer begin that it stands for.
    uint64_t byte_start;
    /// Where they end.
    uint64_t byte_end;
    /// Its id in the guard's vocabulary.
    uint32_t token_id;
    /// Whether it is thinking: `QG_CHANNEL_`.
    int32_t channel;
    /// 1 if no later text can change it. A provisional token (0) moves neither the horizon nor the decision.
    uint32_t is_final;
    /// 0.
    uint32_t reserved;
    /// What the model says about the answer up to here. Categories are those of `QG_HEADS_ANSWER`.
    struct qg_verdict verdict;
} qg_token_verdict;

/// A second opinion on an answer, of the guard that `second_opinion` names in the configuration. Bytes and tokens count from
/// the start of the answer, tags and thinking included.
typedef struct qg_opinion {
    /// Why it was asked for: `QG_TRIGGER_`.
    int32_t trigger;
    /// What came of it: `QG_OPINION_`.
    int32_t outcome;
    /// Whether what is in dispute is in the thinking: `QG_CHANNEL_`.
    int32_t channel;
    /// The level that it says: `QG_RISK_`. 0 if it failed.
    int32_t risk;
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1. All 0 if it failed.
    float risk_probabilities[3];
    /// 1 if it could be had; else 0, and its outcome is `QG_OPINION_FAILED`.
    uint32_t is_annotated;
    /// Where the first token in dispute begins, in bytes.
    uint64_t byte_start;
    /// Where the last one ends. The opinion is about all of the answer up to there, whole characters only.
    uint64_t byte_end;
    /// The first token in dispute.
    uint64_t first_token;
    /// The last one, at which it was asked for.
    uint64_t confirming_token;
    /// 0.
    uint64_t reserved[3];
} qg_opinion;

/// One call of a stream.
typedef struct qg_call {
    /// The stream, which the call needs for itself.
    struct qg_stream *stream;
    /// What to do: `QG_CALL_`.
    uint32_t kind;
    /// 0.
    uint32_t reserved;
    /// What the call takes, by its kind. NULL is fine if `length` is 0 or the kind does not use it.
    const void *data;
    /// How much: bytes of text, messages or tokens; or how much of the answer stays.
    size_t length;
} qg_call;

/// What a call answers.
typedef struct qg_reply {
    /// How the call ended.
    qg_status status;
    /// 1 if `check` holds the answer, 0 if `update` does.
    uint32_t is_check;
    /// Why it failed: yours to free. NULL if it did not.
    struct qg_error *error;
    /// For a prompt or a next turn that worked; else all 0.
    struct qg_prompt_check check;
    /// For any other call that worked; else all 0.
    struct qg_update update;
} qg_reply;

/// What a policy makes of an annotation.
typedef struct qg_judgement {
    /// What is to be done: `QG_DECISION_`.
    int32_t decision;
    /// 1 if a rule of the policy applies, else 0 and the four fields that follow are 0.
    uint32_t has_finding;
    /// What is to be done about it: `QG_ACTION_FLAG` or `QG_ACTION_STOP`.
    int32_t action;
    /// The level that it counts as: `QG_RISK_`.
    int32_t risk;
    /// Index of the category whose rule applies, or that is named, as in `qg_annotation_info`; -1 if none is known.
    int32_t category;
    /// Probability of the level, 0 to 1.
    float probability;
    /// 0.
    uint64_t reserved[2];
} qg_judgement;

/// What an annotation says, but for its texts.
typedef struct qg_annotation_info {
    /// What was judged: `QG_MODE_`.
    int32_t mode;
    /// The level: `QG_RISK_`. Of equally probable ones it is the gravest.
    int32_t risk;
    /// 1 if `risk_probabilities` say something, else 0 and they are all 0, as with `QG_DECODING_FREE`.
    uint32_t has_risk_probabilities;
    /// Probability of each level, 0 to 1, by its `QG_RISK_` number. They sum to 1.
    float risk_probabilities[3];
    /// 1 if all lines of the answer could be read. It is 0 with `QG_DECODING_FREE` only: a level that is missing counts as
    /// the gravest.
    uint32_t parsed;
    /// Whether the answer refuses: 1 or 0; -1 where that is not known, as for prompts.
    int32_t refusal;
    /// 1 if `refusal_probability` says something, else 0 and that is 0.
    uint32_t has_refusal_probability;
    /// The probability that the answer refuses, 0 to 1.
    float refusal_probability;
    /// How many categories are named.
    uint32_t category_count;
    /// Indices of the categories that are named, in the order in which the model names them. Their names are
    /// `qg_annotation_category_name`'s. Those from `category_count` on are 0.
    uint32_t categories[16];
    /// 1 if `category_probabilities` say something, else 0 and they are all 0, as where the level is `QG_RISK_SAFE` or
    /// categories are not decided.
    uint32_t has_category_probabilities;
    /// How many categories there are to name.
    uint32_t mode_category_count;
    /// Probability of each category of being named first, 0 to 1, by its index. With `none_probability` they sum to 1. Those
    /// from `mode_category_count` on are 0.
    float category_probabilities[16];
    /// Probability that no category is named, 0 to 1. 0 of a bundle of the variant stream, which always names one.
    float none_probability;
    /// 1 if only a part of the last message was judged: see `QG_TEXT_OVERFLOW_`.
    uint32_t is_cut;
    /// How many windows of it were judged: 1, but for `QG_TEXT_OVERFLOW_WINDOWS`.
    uint32_t windows;
    /// Where the bytes of the last message's content begin that were judged.
    uint64_t judged_start;
    /// Where they end.
    uint64_t judged_end;
    /// How many tokens the model writes its answer to: those of the rendered conversation. 0 if it writes nothing.
    uint64_t id_count;
    /// What the policy of the guard makes of it.
    struct qg_judgement judgement;
    /// 0.
    uint64_t reserved[6];
} qg_annotation_info;

/// How conversations are annotated. Fill it with zeros, which are the defaults, and its size; then set what you want
/// differently.
typedef struct qg_annotate_options {
    /// sizeof(qg_annotate_options). It tells which version of this struct the program was built with.
    uint32_t struct_size;
    /// How the verdict is had of a model that writes it: `QG_DECODING_`. It means nothing to a bundle of the variant stream.
    uint32_t decoding;
    /// What happens to a conversation that does not fit the model's context: `QG_TEXT_OVERFLOW_`.
    uint32_t overflow;
    /// 0.
    uint32_t reserved;
} qg_annotate_options;

/// A conversation to judge.
typedef struct qg_conversation {
    /// The messages. NULL is fine if there are none.
    const struct qg_message *messages;
    /// How many there are.
    size_t message_count;
} qg_conversation;

/// What came of one of many conversations.
typedef struct qg_annotation_result {
    /// How it ended.
    qg_status status;
    /// 0.
    uint32_t reserved;
    /// Why it failed: yours to free. NULL if it did not.
    struct qg_error *error;
    /// The annotation: yours to free. NULL if it failed.
    struct qg_annotation *annotation;
} qg_annotation_result;

/// A call that is done.
typedef struct qg_completion {
    /// What the call was submitted with.
    uint64_t tag;
    /// The stream that was submitted, which is free for its next call. NULL for an annotation.
    struct qg_stream *stream;
    /// What the call answers; of an annotation the status and the error, and all else is 0.
    struct qg_reply reply;
    /// The annotation that was submitted: yours to free. NULL for a call of a stream, and for an annotation that failed.
    struct qg_annotation *annotation;
} qg_completion;

/// Tells that a queue has something to take. Called by any thread, also by threads of the library: a stream's next step waits
/// for it. It only has to wake the thread that takes calls (uv_async_send, PostQueuedCompletionStatus, kevent with
/// EVFILT_USER, a write to a pipe, call_soon_threadsafe): it may call no function of the library. It must return: no exception
/// and no longjmp may leave it, which would end the process.
typedef void (*qg_wake_callback)(void *context);

/// Takes a message: its level (`QG_LOG_`), where it comes from (such as "qwenguard::engine::worker"), and what it says, in one
/// or more lines. Both texts are UTF-8, end with a NUL and live as long as the call.
///
/// It is called by any thread, also by several at once and by threads of the library: a stream's next step waits for it. So it
/// must not wait for anything of the library's. It may call the functions that only tell something (qg_status_name,
/// qg_risk_name, those of versions) and free errors, texts and annotations, no other; messages that it brings about are not
/// given to it. It must return: no exception and no longjmp may leave it, which would end the process.
typedef void (*qg_log_callback)(void *context,
                                uint32_t level,
                                const char *target,
                                const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// The version of the library that is loaded, such as "0.1.0": a constant text that ends with a NUL.
const char *qg_version(void);

/// The version of the library that is loaded, counted as `QG_VERSION_NUMBER`.
uint32_t qg_version_number(void);

/// The binary interface of the library that is loaded. A program that finds the library at run time compares it with
/// `QG_ABI_VERSION` before any other call.
uint32_t qg_abi_version(void);

/// The status that the failed call returned; `QG_OK` for NULL.
int32_t qg_error_status(const struct qg_error *error);

/// What went wrong, for people: UTF-8 that ends with a NUL, never NULL, and empty for a NULL error. It lives as long as the
/// error.
const char *qg_error_message(const struct qg_error *error);

/// Frees an error. NULL is fine.
void qg_error_free(struct qg_error *error);

/// The name of a status, such as "QG_ERROR_BUSY": a constant text that ends with a NUL. NULL if there is no such status.
const char *qg_status_name(int32_t status);

/// The text: UTF-8 that ends with a NUL and has no other, never NULL, and empty for a NULL text. It lives as long as the
/// `qg_text`.
const char *qg_text_data(const struct qg_text *text);

/// Its length in bytes, without the NUL at the end; 0 for NULL.
size_t qg_text_length(const struct qg_text *text);

/// Frees a text. NULL is fine.
void qg_text_free(struct qg_text *text);

/// The name of a level, such as "Unsafe": a constant text that ends with a NUL. NULL if there is no such level.
const char *qg_risk_name(int32_t risk);

/// Fills options with the defaults. `struct_size` is sizeof(qg_guard_options): no more than that is written.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if `struct_size` is less than any version of the struct had, or more than the
/// library's own, as it is if the header is newer than the library; then nothing is written.
qg_status qg_guard_options_init(struct qg_guard_options *options,
                                uint32_t struct_size,
                                struct qg_error **error);

/// Opens the bundle in a folder, and gives a guard that is yours to free. `options` may be NULL: the defaults.
///
/// It takes as long as reading the weights and making the session do: seconds, for a large model.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG; QG_ERROR_RUNTIME_NOT_FOUND or QG_ERROR_RUNTIME_UNUSABLE if
/// there is no ONNX Runtime to run it; QG_ERROR_BUNDLE_FILE, QG_ERROR_BUNDLE_FIELD or QG_ERROR_BUNDLE_FORMAT if the bundle
/// is damaged, newer than this library or of an unknown kind; QG_ERROR_PROVIDER if the execution provider that the
/// configuration chooses cannot be had; QG_ERROR_OUT_OF_MEMORY; QG_ERROR_INFERENCE.
qg_status qg_guard_open(const char *bundle,
                        size_t bundle_length,
                        const struct qg_guard_options *options,
                        struct qg_guard **guard,
                        struct qg_error **error);

/// Opens the demonstration guard that is built into the library, and gives a guard that is yours to free. It is small and
/// only tells the obvious apart: for trying things and for tests. `options` may be NULL: the defaults.
///
/// Errors: as `qg_guard_open`.
qg_status qg_guard_open_nano(const struct qg_guard_options *options,
                             struct qg_guard **guard,
                             struct qg_error **error);

/// Opens the demonstration guard of the variant gen, which is built in too, and gives a guard that is yours to free: it
/// annotates whole conversations and has no streams. It is as small as the other. `options` may be NULL: the defaults.
///
/// Errors: as `qg_guard_open`.
qg_status qg_guard_open_nano_gen(const struct qg_guard_options *options,
                                 struct qg_guard **guard,
                                 struct qg_error **error);

/// Frees a guard. NULL is fine, and so are streams that still use it: they keep what they need.
void qg_guard_free(struct qg_guard *guard);

/// Tells what a guard is made of, as a JSON object: bundle, checkpoint, precision, dimensions, labels, ONNX Runtime. The
/// text is yours to free.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_guard_info(const struct qg_guard *guard,
                        struct qg_text **json,
                        struct qg_error **error);

/// Tells how many categories there are for prompts or for answers. `heads` is one of `QG_HEADS_`.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM.
qg_status qg_guard_category_count(const struct qg_guard *guard,
                                  uint32_t heads,
                                  uint32_t *count,
                                  struct qg_error **error);

/// Gives the name of a category, exactly as the checkpoint spells it: UTF-8 that ends with a NUL. It lives as long as this
/// guard is not freed. `heads` is one of `QG_HEADS_`, `category` an index as verdicts have it.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if there is no such category.
qg_status qg_guard_category_name(const struct qg_guard *guard,
                                 uint32_t heads,
                                 uint32_t category,
                                 const char **name,
                                 struct qg_error **error);

/// Gives the tokens of a text (UTF-8), as `qg_stream_push_tokens` wants them: their ids, and the bytes of the text that each
/// stands for. Special tokens that the text spells are text.
///
/// `ids` and `spans` are arrays with room for `capacity` each; one that is NULL is not wanted. `*count` becomes the number
/// of tokens; if it is more than `capacity`, only the first were written.
///
/// Errors: QG_ERROR_NULL for `guard`, `count` or a text of some length; QG_ERROR_ARGUMENT if the text is not UTF-8, the
/// tokenizer cannot encode it, or it takes texts only whole and this has more than 1 MiB; QG_ERROR_OUT_OF_MEMORY.
qg_status qg_guard_encode(const struct qg_guard *guard,
                          const char *text,
                          size_t text_length,
                          uint32_t *ids,
                          struct qg_span *spans,
                          size_t capacity,
                          size_t *count,
                          struct qg_error **error);

/// Gives the bytes that a token stands for: often not whole characters, and without a NUL at the end. They live as long as
/// this guard is not freed.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such token.
qg_status qg_guard_token_bytes(const struct qg_guard *guard,
                               uint32_t token,
                               const uint8_t **bytes,
                               size_t *length,
                               struct qg_error **error);

/// Lists every execution provider, as a JSON array of objects: `provider` is its name in the configuration (`cpu`, `cuda`,
/// `webgpu`, `directml`, `coreml`), `available` tells whether a guard can be opened on it here, `devices` what it can compute
/// on (each `index`, as its setting `device` has it, `name` and `kind`: `cpu`, `gpu` or `npu`), and `reason` why it is not
/// available, in one line, or null. The text is yours to free. `options` are those that a guard would be opened with, and may
/// be NULL: the defaults; which provider they choose makes no difference.
///
/// Each provider that may be there makes a session of one addition, which takes up to a few seconds.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG; QG_ERROR_RUNTIME_NOT_FOUND or QG_ERROR_RUNTIME_UNUSABLE if there is
/// no ONNX Runtime.
qg_status qg_providers(const struct qg_guard_options *options,
                       struct qg_text **json,
                       struct qg_error **error);

/// Tells what the guard has done and how it is.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_guard_stats(const struct qg_guard *guard,
                         struct qg_stats *stats,
                         struct qg_error **error);

/// Tells how often the guard gave which verdict, and what policies made of it: an element for each channel, level and category
/// that there was.
///
/// `counts` is an array with room for `capacity`. `*count` becomes the number of elements; if it is more than `capacity`, only
/// the first were written.
///
/// Errors: QG_ERROR_NULL for `guard`, `count`, or `counts` if `capacity` is not 0.
qg_status qg_guard_verdict_counts(const struct qg_guard *guard,
                                  struct qg_verdict_count *counts,
                                  size_t capacity,
                                  size_t *count,
                                  struct qg_error **error);

/// Gives the same in the text format of Prometheus, version 0.0.4, with histograms of times and batch sizes, and verdicts, stops
/// and flags by their labels `channel`, `level` and `category`. All names start with `qwenguard_`; if the configuration gives the
/// guard a `name`, each sample has it as its label `guard`. The text is yours to free.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_guard_metrics(const struct qg_guard *guard,
                           struct qg_text **metrics,
                           struct qg_error **error);

/// Opens a stream, which is yours to free. `policy` is a TOML document (UTF-8) with the rules for this conversation.
/// Everything about it that is not given is strict, whatever the guard's policy says. A length of 0 means the policy of the
/// guard's configuration, whether or not the pointer is NULL.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG if the policy is wrong or names a category that the model does
/// not have; QG_ERROR_BUSY if as many streams are open as the configuration allows.
qg_status qg_stream_open(const struct qg_guard *guard,
                         const char *policy,
                         size_t policy_length,
                         struct qg_stream **stream,
                         struct qg_error **error);

/// Frees a stream and gives its memory back. NULL is fine; the guard may have been freed before. A call of the stream that is
/// in a queue is cancelled and does not come back, unless a thread in `qg_queue_wait` is just taking it out.
void qg_stream_free(struct qg_stream *stream);

/// Gives the conversation, and judges its last message of the user.
///
/// The conversation is rendered by the checkpoint's own template, thinking off. A message of the assistant at the end is the
/// beginning of the answer: it is given to the model but not judged, and so is what stands between the judged message and the
/// answer, such as results of tools. The policy's `prompt.roles = ["user", "tool"]` has the last message of either role
/// judged; results that the template puts into one turn are judged together. On a stream that had a prompt this starts the
/// next turn; only what differs from the conversation so far is computed.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if a text is not UTF-8; QG_ERROR_CONVERSATION if there is no message to judge, the
/// template refuses the messages, or it leaves one out or a part of it, as it does with roles that it does not know: the
/// message names role and index, counted from 0; QG_ERROR_CONTEXT_FULL if the prompt is longer than the model's context,
/// which is known before all of it is tokenized; QG_ERROR_IN_USE; those of the engine.
qg_status qg_stream_prompt(struct qg_stream *stream,
                           const struct qg_message *messages,
                           size_t message_count,
                           struct qg_prompt_check *check,
                           struct qg_error **error);

/// Goes on with the conversation after `qg_stream_finish`: the messages so far, the answer as it was pushed, and these
/// messages. The last of the user is judged, as `qg_stream_prompt` says.
///
/// Errors: QG_ERROR_WRONG_STATE before the end of the answer; QG_ERROR_CONVERSATION also if the answer came as tokens and is
/// not UTF-8; and as `qg_stream_prompt`.
qg_status qg_stream_next_turn(struct qg_stream *stream,
                              const struct qg_message *messages,
                              size_t message_count,
                              struct qg_prompt_check *check,
                              struct qg_error **error);

/// Gives the next piece of the answer's text, and judges its tokens. The piece may begin and end anywhere, even inside a
/// character. After `QG_DECISION_STOP` further text is still judged: stopping is yours to do.
///
/// Thinking between <think> and </think> at the answer's beginning is found and judged by the policy's rules for
/// thinking.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the text is not UTF-8 (the message says at which byte of the answer), has more
/// than 1 MiB, or the bundle's tokenizer cannot take text in pieces; QG_ERROR_WRONG_STATE before the prompt, after tokens or
/// after the end of the answer; QG_ERROR_CONTEXT_FULL if the text does not fit the model's context; QG_ERROR_IN_USE;
/// those of the engine.
qg_status qg_stream_push_text(struct qg_stream *stream,
                              const char *text,
                              size_t text_length,
                              struct qg_update *update,
                              struct qg_error **error);

/// As `qg_stream_push_text`, for a piece of thinking from a host that knows it as such: no tag in it means anything. The first
/// `qg_stream_push_text` ends the thinking.
///
/// Errors: as `qg_stream_push_text`; QG_ERROR_WRONG_STATE also if the answer has begun already or the template has no place
/// for thinking.
qg_status qg_stream_push_thinking(struct qg_stream *stream,
                                  const char *text,
                                  size_t text_length,
                                  struct qg_update *update,
                                  struct qg_error **error);

/// Gives the next tokens of the answer, from a model with the guard's own vocabulary, and judges each of them. None of them is
/// provisional. If the first is the tokenizer's <think>, thinking goes up to its </think>; the two tags and newlines right
/// after them are not judged.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT for an id that is no token or more than 1,048,576 of them; QG_ERROR_WRONG_STATE
/// before the prompt, after text or after the end of the answer; QG_ERROR_CONTEXT_FULL if the tokens do not fit the model's
/// context; QG_ERROR_IN_USE; those of the engine.
qg_status qg_stream_push_tokens(struct qg_stream *stream,
                                const uint32_t *ids,
                                size_t id_count,
                                struct qg_update *update,
                                struct qg_error **error);

/// Says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE before the prompt or after the end of the answer; QG_ERROR_ARGUMENT if the text
/// ends inside a character (the message says at which byte); QG_ERROR_CONTEXT_FULL; QG_ERROR_IN_USE; those of the engine.
qg_status qg_stream_finish(struct qg_stream *stream,
                           struct qg_update *update,
                           struct qg_error **error);

/// Cuts the answer back to its first `bytes` bytes, as if nothing after them had ever come; a violation after them is
/// forgotten. For a host that lets its model try again from there. Its last tokens are provisional again, so the horizon may
/// be before `bytes`, even where more was shown.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the answer is shorter, or that is inside a character or, for pushed tokens,
/// inside a token; QG_ERROR_WRONG_STATE before the prompt; QG_ERROR_IN_USE; those of the engine.
qg_status qg_stream_truncate(struct qg_stream *stream,
                             size_t bytes,
                             struct qg_update *update,
                             struct qg_error **error);

/// As `qg_stream_truncate`, to the answer's first `tokens` tokens, as `qg_token_verdict.index` counts them.
///
/// Errors: as `qg_stream_truncate`; QG_ERROR_ARGUMENT also if its text has no place between characters there.
qg_status qg_stream_truncate_tokens(struct qg_stream *stream,
                                    size_t tokens,
                                    struct qg_update *update,
                                    struct qg_error **error);

/// Gives another stream with the same conversation so far, which goes its own way from here and is yours to free. It shares
/// the cache of what is common, so that several drafts of an answer cost their own tokens only.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_BUSY if as many streams are open as the configuration allows; QG_ERROR_IN_USE;
/// QG_ERROR_EXPIRED; QG_ERROR_ENGINE_STOPPED.
qg_status qg_stream_fork(const struct qg_stream *stream,
                         struct qg_stream **fork,
                         struct qg_error **error);

/// Tells how many tokens of the model's context the conversation uses so far, those of the template included: 0 before the
/// first prompt. With engine.overflow = "restart" only the part of the answer counts that the model still sees. Of a stream
/// that has expired it tells what it had.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
qg_status qg_stream_context_used(const struct qg_stream *stream,
                                 size_t *tokens,
                                 struct qg_error **error);

/// Copies the tokens that the last update judged, in order: as many as `capacity` allows. `*count` becomes how many there are,
/// which is `qg_update.token_count`, and 0 if the last call that succeeded was not one with an update. `tokens` may be NULL if
/// `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
qg_status qg_stream_tokens(const struct qg_stream *stream,
                           struct qg_token_verdict *tokens,
                           size_t capacity,
                           size_t *count,
                           struct qg_error **error);

/// Copies the places that the last update found flagged, as `qg_stream_tokens` does with tokens; `*count` becomes
/// `qg_update.flag_count`. `flags` may be NULL if `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
qg_status qg_stream_flags(const struct qg_stream *stream,
                          struct qg_violation *flags,
                          size_t capacity,
                          size_t *count,
                          struct qg_error **error);

/// Copies the second opinions that the last update asked for, as `qg_stream_tokens` does with tokens; `*count` becomes
/// `qg_update.opinion_count`. `opinions` may be NULL if `capacity` is 0.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_IN_USE.
qg_status qg_stream_opinions(const struct qg_stream *stream,
                             struct qg_opinion *opinions,
                             size_t capacity,
                             size_t *count,
                             struct qg_error **error);

/// Gives what one of the opinions of the last update says, in the order of `qg_stream_opinions`. Its categories are those of
/// the guard that was asked, and what it is judged by are the policy's rules for the channel. It is yours to free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such opinion; QG_ERROR_IN_USE. If the opinion could not be had:
/// the error for which it could not.
qg_status qg_stream_opinion_annotation(const struct qg_stream *stream,
                                       size_t opinion,
                                       struct qg_annotation **annotation,
                                       struct qg_error **error);

/// Gives the rule of the policy that fired, by the names of its settings, such as "answer.strict: 2 consecutive": for the
/// violation of the last update, or for what the last prompt's verdict found. The text is yours to free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE if the last call that succeeded found nothing; QG_ERROR_IN_USE.
qg_status qg_stream_rule(const struct qg_stream *stream,
                         struct qg_text **rule,
                         struct qg_error **error);

/// As `qg_stream_rule`, for one of the flags of the last update, in the order of `qg_stream_flags`.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such flag; QG_ERROR_IN_USE.
qg_status qg_stream_flag_rule(const struct qg_stream *stream,
                              size_t flag,
                              struct qg_text **rule,
                              struct qg_error **error);

/// Makes a call of each of many streams and waits for all of them. The model takes them together, which is much faster than
/// one after the other.
///
/// `replies` is an array with room for as many as there are calls, and in their order. One call that fails leaves the others
/// alone: `qg_reply.status` tells, and the error is yours to free. A second call of the same stream fails with
/// QG_ERROR_IN_USE.
///
/// Errors: QG_ERROR_NULL for an array of some length. Everything else is the error of a call.
qg_status qg_streams_call(const struct qg_call *calls,
                          size_t call_count,
                          struct qg_reply *replies,
                          struct qg_error **error);

/// Frees an annotation. NULL is fine.
void qg_annotation_free(struct qg_annotation *annotation);

/// Tells what an annotation says, but for its texts.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_annotation_get(const struct qg_annotation *annotation,
                            struct qg_annotation_info *info,
                            struct qg_error **error);

/// Gives the name of a category, exactly as the checkpoint spells it: UTF-8 that ends with a NUL. It lives as long as the
/// annotation. `category` is an index as `qg_annotation_info` has it, below its `mode_category_count`: the same as
/// `qg_guard_category_name`'s.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such category.
qg_status qg_annotation_category_name(const struct qg_annotation *annotation,
                                      uint32_t category,
                                      const char **name,
                                      struct qg_error **error);

/// Gives what the model writes: empty if it writes nothing, as one of the variant stream. The text is yours to free.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_annotation_answer(const struct qg_annotation *annotation,
                               struct qg_text **answer,
                               struct qg_error **error);

/// Gives an annotation as a JSON object: the line that `qwenguard annotate` writes without a policy, and without an `id`. The
/// text is yours to free.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_annotation_json(const struct qg_annotation *annotation,
                             struct qg_text **json,
                             struct qg_error **error);

/// Tells what another policy makes of an annotation, without the model: a TOML document (UTF-8) as `qg_stream_open` takes it.
/// The rules for prompts or those for answers apply, by the mode. A length of 0 means the policy of the guard.
///
/// `*rule` becomes the rule that applies, by the names of its settings, such as "answer.strict": yours to free, NULL if none
/// applies. `rule` may be NULL if that is not wanted.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the policy is not UTF-8; QG_ERROR_CONFIG if it is wrong or names a category
/// that the model does not have.
qg_status qg_annotation_judge(const struct qg_annotation *annotation,
                              const char *policy,
                              size_t policy_length,
                              struct qg_judgement *judgement,
                              struct qg_text **rule,
                              struct qg_error **error);

/// Gives the reward of a response for reinforcement learning, by a rule: a TOML document (UTF-8) with `form` ("guard" or
/// "hybrid"), `controversial_is_safe`, `safe`, `not_safe`, `not_safe_cap` and `refusal_cap`. A length of 0 means the defaults:
/// 1 if the response is safe, 0 if not.
///
/// `annotation` is that of the response. `thinking` is that of its thinking, judged as a response of its own, or NULL: the
/// response is safe if both say so. `helpfulness` is the score of a reward model, which the form "guard" has no use for.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_CONFIG if the rule is wrong; QG_ERROR_ARGUMENT if it is not UTF-8, an annotation is of a
/// prompt, the score is needed and is no finite number, or it matters whether the response refuses and that is not known.
qg_status qg_annotation_reward(const struct qg_annotation *annotation,
                               const struct qg_annotation *thinking,
                               const char *rule,
                               size_t rule_length,
                               double helpfulness,
                               double *reward,
                               struct qg_error **error);

/// Judges a whole conversation, and gives an annotation that is yours to free: of what is asked, if the last message is the
/// user's, else of what is answered. It is for texts that are there already; what is being written a stream judges.
/// `options` may be NULL: the defaults.
///
/// A bundle of the variant gen writes its verdict. The conversation is rendered by the checkpoint's own template, as it is.
/// All callers' conversations are computed together, and what they begin with in common once.
///
/// A bundle of the variant stream judges the last message of the user, or every token of the answer: the annotation is the
/// worst that two tokens in a row agree on. Refusals are not known then.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text is not UTF-8, or a size or `reserved` of the options is
/// wrong; QG_ERROR_CONVERSATION if there is no message, or the template refuses one or leaves out a part of it: the message
/// names its role and its index, counted from 0; of a bundle of the variant stream also if there is nothing to judge;
/// QG_ERROR_CONTEXT_FULL if conversation and answer do not fit the model's context; those of the engine.
qg_status qg_guard_annotate(const struct qg_guard *guard,
                            const struct qg_message *messages,
                            size_t message_count,
                            const struct qg_annotate_options *options,
                            struct qg_annotation **annotation,
                            struct qg_error **error);

/// Judges many conversations together, each as `qg_guard_annotate` does, and waits for all of them. That is much faster than
/// one after the other. Those that begin alike share more of the computation if they are close to each other.
///
/// `results` is an array with room for as many as there are conversations, and in their order. One that fails leaves the
/// others alone: `qg_annotation_result.status` tells. Errors and annotations are yours to free.
///
/// Errors: QG_ERROR_NULL for `guard` or an array of some length; QG_ERROR_ENUM or QG_ERROR_ARGUMENT for the options;
/// QG_ERROR_OUT_OF_MEMORY; QG_ERROR_ENGINE_STOPPED after a fork. Everything else is the error of a conversation.
qg_status qg_guard_annotate_all(const struct qg_guard *guard,
                                const struct qg_conversation *conversations,
                                size_t conversation_count,
                                const struct qg_annotate_options *options,
                                struct qg_annotation_result *results,
                                struct qg_error **error);

/// Makes an empty queue, which is yours to free. One queue can serve all streams of all guards.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_queue_open(struct qg_queue **queue, struct qg_error **error);

/// Frees a queue. NULL is fine. Calls and annotations in it are cancelled, and streams can be used again. No thread may be in a
/// function of the queue.
void qg_queue_free(struct qg_queue *queue);

/// Begins a call. It is done when the queue gives it back, with an error of its own if it has one; until then all functions of
/// its stream but `qg_stream_free` return QG_ERROR_IN_USE. `tag` is yours, to know the call by.
///
/// A call that is not done within `timeout_ms` milliseconds is cancelled with QG_ERROR_DEADLINE_EXCEEDED; QG_NO_TIMEOUT gives
/// it the time it takes.
///
/// Texts are tokenized here, in your thread: prompts up to what fits the model's context, about 5 ms for each 1,000 tokens,
/// pushes whole, which have at most 1 MiB and take up to 0.3 s. The rest of the work is not yours.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text of a message is not UTF-8 or `reserved` is not 0;
/// QG_ERROR_CONTEXT_FULL if there are more messages than tokens in the context or their texts have more than 16 MiB and
/// cannot fit it; QG_ERROR_OUT_OF_MEMORY; QG_ERROR_IN_USE. Everything else is the error of the call.
qg_status qg_queue_submit(const struct qg_queue *queue,
                          const struct qg_call *call,
                          uint64_t tag,
                          uint64_t timeout_ms,
                          struct qg_error **error);

/// Begins to judge a whole conversation, as `qg_guard_annotate` does. It is done when the queue gives it back: with
/// `qg_completion.annotation`, or with an error of its own in the reply. `tag` and `timeout_ms` are as with
/// `qg_queue_submit`, and so is `qg_queue_cancel`. The guard may be freed meanwhile.
///
/// The conversation is rendered and tokenized here, in your thread, up to what fits the model's context: about 5 ms for each
/// 1,000 tokens. The rest of the work is not yours.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if a text is not UTF-8, or a size or `reserved` of the options is
/// wrong; QG_ERROR_CONTEXT_FULL if there are more messages than tokens in the context or their texts have more than 16 MiB
/// and cannot fit it; QG_ERROR_OUT_OF_MEMORY. Everything else is the error of the annotation.
qg_status qg_queue_annotate(const struct qg_queue *queue,
                            const struct qg_guard *guard,
                            const struct qg_message *messages,
                            size_t message_count,
                            const struct qg_annotate_options *options,
                            uint64_t tag,
                            uint64_t timeout_ms,
                            struct qg_error **error);

/// Waits up to `timeout_ms` milliseconds for a call that is done, then takes all that are, as many as `capacity` allows.
/// `*count` becomes how many: 0 if the time passed. A timeout of 0 only looks; with QG_NO_TIMEOUT it waits even while the
/// queue is empty, for what another thread may submit. Errors of calls are in their replies; they and annotations are yours to
/// free.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if `capacity` is 0.
qg_status qg_queue_wait(const struct qg_queue *queue,
                        uint64_t timeout_ms,
                        struct qg_completion *completions,
                        size_t capacity,
                        size_t *count,
                        struct qg_error **error);

/// Gives up the calls with this tag that are not done, also while the model computes them. They come back from the queue as
/// all calls do, with QG_ERROR_CANCELLED. `*count` becomes how many there were.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_queue_cancel(const struct qg_queue *queue,
                          uint64_t tag,
                          size_t *count,
                          struct qg_error **error);

/// Tells how many calls the queue has not given back yet.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_queue_length(const struct qg_queue *queue, size_t *calls, struct qg_error **error);

/// Gives what an event loop of the system waits for while the queue has nothing to take: on Unix a file descriptor that becomes
/// readable, `(int)descriptor`, for epoll, kqueue, poll, uv_poll_t and add_reader of asyncio; on Windows a handle of an event
/// that becomes set, `(HANDLE)(intptr_t)descriptor`, for WaitForMultipleObjects and RegisterWaitForSingleObject.
///
/// It is ready for as long as there is something to take: level-triggered. When it is, call `qg_queue_wait` with a timeout of
/// 0; do not read from it, write to it, reset or close it. It may be ready although `qg_queue_wait` then gives nothing, for
/// one of several parts of a call, or because another thread was faster. It becomes ready for deadlines, too, of which a thread
/// of the library takes care from now on. A loop that is told of changes only (EPOLLET, EV_CLEAR) calls `qg_queue_wait`
/// until that gives fewer calls than there is room for.
///
/// It is the queue's, is always the same, and is closed by `qg_queue_free`: take it out of the loop before. A forked process
/// must not use it.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if the system gives no more descriptors; QG_ERROR_CONFIG if it gives no thread.
qg_status qg_queue_descriptor(const struct qg_queue *queue,
                              int64_t *descriptor,
                              struct qg_error **error);

/// Has a function called when the queue has something to take, after it had nothing: in place of the one before, for loops that
/// are woken from other threads and not by descriptors. `context` is given to it. NULL switches it off. If there is something
/// to take already, it is called at once. When this returns, the function that was set before does not run and is not called
/// again; so it is after `qg_queue_free`.
///
/// It is called once, however much comes, until `qg_queue_wait` has found that nothing is left: when it was called, call
/// `qg_queue_wait` with a timeout of 0 until that gives fewer calls than there is room for. It may be called although there is
/// nothing then. It is called for deadlines, too, of which a thread of the library takes care from now on.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE from the function itself; QG_ERROR_CONFIG if the system gives no thread.
qg_status qg_queue_set_wake(const struct qg_queue *queue,
                            qg_wake_callback callback,
                            void *context,
                            struct qg_error **error);

/// Has the messages of the library, and of ONNX Runtime as it uses it, given to a function, in place of the one before: those
/// of `level` (`QG_LOG_`) and graver ones. `context` is given to the function. NULL, or QG_LOG_OFF, switches it off. When this
/// returns, the function that was set before does not run and is not called again.
///
/// Nothing of this is set up before the first call. Messages of guards that are open, or being opened by other threads, begin
/// with the call.
///
/// A program in Rust that has this library linked into it and has a subscriber of `tracing` gets the messages there. If this is
/// called first, that program cannot set a global subscriber later. A forked process has no function until it sets one.
///
/// Errors: QG_ERROR_ENUM; QG_ERROR_WRONG_STATE from the function itself, and in a program whose subscriber of `tracing` gets
/// the messages.
qg_status qg_log_set(qg_log_callback callback,
                     void *context,
                     uint32_t level,
                     struct qg_error **error);

/// Has messages kept: those of `level` (`QG_LOG_`) and graver ones, from now on, up to 1,024 of them; what comes when as many
/// wait is counted and lost. The log is yours to free. There may be several, and a function of `qg_log_set` beside them; what
/// is said there of programs in Rust holds here, too.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_WRONG_STATE in a program whose subscriber of `tracing` gets the messages.
qg_status qg_log_open(uint32_t level,
                      struct qg_log **log,
                      struct qg_error **error);

/// Waits for the next message, for `timeout_ms` milliseconds at most; 0 only looks, QG_NO_TIMEOUT waits for as long as it takes.
///
/// `*level` becomes its level, or QG_LOG_OFF if the time passed, and then the texts become NULL. `*target` says where it comes
/// from, `*message` what it says; both are yours to free. `*lost` becomes how many messages were lost since the call before.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_WRONG_STATE after `qg_log_end`, once all messages are taken.
qg_status qg_log_wait(const struct qg_log *log,
                      uint64_t timeout_ms,
                      uint32_t *level,
                      struct qg_text **target,
                      struct qg_text **message,
                      uint64_t *lost,
                      struct qg_error **error);

/// Ends a log: no more messages are kept, and who waits returns.
///
/// Errors: QG_ERROR_NULL.
qg_status qg_log_end(const struct qg_log *log, struct qg_error **error);

/// Frees a log, with the messages that are not taken. NULL is fine. No thread may be in a function of the log.
void qg_log_free(struct qg_log *log);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QWENGUARD_H */
