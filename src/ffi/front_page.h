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
