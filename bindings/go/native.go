package qwenguard

// The functions of qwenguard.h under their own names, less the prefix. No other file calls C, but for errors. What cgo is told
// of pushes keeps their results off the heap, and none of the functions keeps a pointer or calls back.

/*
#cgo pkg-config: qwenguard
#cgo noescape qg_stream_push_text
#cgo nocallback qg_stream_push_text
#cgo noescape qg_stream_push_thinking
#cgo nocallback qg_stream_push_thinking
#cgo noescape qg_stream_push_tokens
#cgo nocallback qg_stream_push_tokens
#include <qwenguard.h>
*/
import "C"

import (
	"cmp"
	"math"
	"runtime"
	"time"
	"unsafe"
)

type (
	rawGuard  = *C.qg_guard
	rawStream = *C.qg_stream
	rawQueue  = *C.qg_queue
)

const (
	builtABI     = C.QG_ABI_VERSION
	builtVersion = C.QG_VERSION_NUMBER
)

// NoTimeout gives a call the time it takes.
const NoTimeout time.Duration = math.MaxInt64

const (
	callPrompt       = C.QG_CALL_PROMPT
	callNextTurn     = C.QG_CALL_NEXT_TURN
	callPushText     = C.QG_CALL_PUSH_TEXT
	callPushThinking = C.QG_CALL_PUSH_THINKING
	callPushTokens   = C.QG_CALL_PUSH_TOKENS
	callFinish       = C.QG_CALL_FINISH
)

func version() string       { return C.GoString(C.qg_version()) }
func versionNumber() uint32 { return uint32(C.qg_version_number()) }
func abiVersion() uint32    { return uint32(C.qg_abi_version()) }

// statusName is empty if there is no such status.
func statusName(status Status) string { return C.GoString(C.qg_status_name(C.int32_t(status))) }

// riskName is empty if there is no such level.
func riskName(risk Risk) string { return C.GoString(C.qg_risk_name(C.int32_t(risk))) }

func chars(text string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text))
}

func tokens(ids []uint32) (*C.uint32_t, C.size_t) {
	return (*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(ids))), C.size_t(len(ids))
}

// pinnedChars is chars for texts that a struct points to.
func pinnedChars(pins *runtime.Pinner, text string) (*C.char, C.size_t) {
	if text == "" {
		return nil, 0
	}
	pins.Pin(unsafe.StringData(text))
	return chars(text)
}

func pinnedMessages(pins *runtime.Pinner, messages []Message) (*C.qg_message, C.size_t) {
	if len(messages) == 0 {
		return nil, 0
	}
	raw := make([]C.qg_message, len(messages))
	for index, message := range messages {
		raw[index].role, raw[index].role_length = pinnedChars(pins, message.Role)
		raw[index].content, raw[index].content_length = pinnedChars(pins, message.Content)
	}
	pins.Pin(&raw[0])
	return &raw[0], C.size_t(len(raw))
}

func pinnedCall(pins *runtime.Pinner, stream rawStream, call *Call) C.qg_call {
	raw := C.qg_call{stream: stream, kind: C.uint32_t(call.kind)}
	switch call.kind {
	case callPrompt, callNextTurn:
		messages, count := pinnedMessages(pins, call.messages)
		raw.data, raw.length = unsafe.Pointer(messages), count
	case callPushText, callPushThinking:
		text, length := pinnedChars(pins, call.text)
		raw.data, raw.length = unsafe.Pointer(text), length
	case callPushTokens:
		if len(call.ids) > 0 {
			pins.Pin(unsafe.SliceData(call.ids))
			ids, count := tokens(call.ids)
			raw.data, raw.length = unsafe.Pointer(ids), count
		}
	}
	return raw
}

func pinnedOptions(pins *runtime.Pinner, options *Options) (C.qg_guard_options, error) {
	var raw C.qg_guard_options
	var failure *C.qg_error
	status := C.qg_guard_options_init(&raw, C.uint32_t(unsafe.Sizeof(raw)), &failure)
	if options != nil {
		raw.threads = C.uint32_t(options.Threads)
		raw.cache_mib = C.uint64_t(options.CacheMiB)
		raw.config_toml, raw.config_toml_length = pinnedChars(pins, options.Config)
		raw.runtime_library, raw.runtime_library_length = pinnedChars(pins, options.RuntimeLibrary)
	}
	return raw, takeError(status, failure)
}

func milliseconds(timeout time.Duration) C.uint64_t {
	switch {
	case timeout == NoTimeout:
		return C.QG_NO_TIMEOUT
	case timeout <= 0:
		return 0
	}
	return C.uint64_t((timeout-1)/time.Millisecond) + 1
}

// takeText frees a text that a call gave.
func takeText(status C.qg_status, text *C.qg_text, failure *C.qg_error) (string, error) {
	defer C.qg_text_free(text)
	return C.GoStringN(C.qg_text_data(text), C.int(C.qg_text_length(text))), takeError(status, failure)
}

func guardOpen(bundle string, options *Options) (rawGuard, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, err := pinnedOptions(&pins, options)
	if err != nil {
		return nil, err
	}
	var guard *C.qg_guard
	var failure *C.qg_error
	data, length := chars(bundle)
	status := C.qg_guard_open(data, length, &raw, &guard, &failure)
	return guard, takeError(status, failure)
}

func guardOpenNano(options *Options) (rawGuard, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, err := pinnedOptions(&pins, options)
	if err != nil {
		return nil, err
	}
	var guard *C.qg_guard
	var failure *C.qg_error
	status := C.qg_guard_open_nano(&raw, &guard, &failure)
	return guard, takeError(status, failure)
}

func guardFree(guard rawGuard) { C.qg_guard_free(guard) }

func guardInfo(guard rawGuard) (string, error) {
	var text *C.qg_text
	var failure *C.qg_error
	status := C.qg_guard_info(guard, &text, &failure)
	return takeText(status, text, failure)
}

func guardCategoryCount(guard rawGuard, heads Heads) (int, error) {
	var count C.uint32_t
	var failure *C.qg_error
	status := C.qg_guard_category_count(guard, C.uint32_t(heads), &count, &failure)
	return int(count), takeError(status, failure)
}

func guardCategoryName(guard rawGuard, heads Heads, category uint32) (string, error) {
	var name *C.char
	var failure *C.qg_error
	status := C.qg_guard_category_name(guard, C.uint32_t(heads), C.uint32_t(category), &name, &failure)
	return C.GoString(name), takeError(status, failure)
}

func guardEncode(guard rawGuard, text string) ([]uint32, []Span, error) {
	data, length := chars(text)
	room := len(text)/2 + 8
	for {
		ids, raw := make([]uint32, room), make([]C.qg_span, room)
		var count C.size_t
		var failure *C.qg_error
		place, capacity := tokens(ids)
		status := C.qg_guard_encode(guard, data, length, place, unsafe.SliceData(raw), capacity, &count, &failure)
		if status != C.QG_OK {
			return nil, nil, takeError(status, failure)
		}
		if int(count) > room {
			room = int(count)
			continue
		}
		spans := make([]Span, count)
		for index := range spans {
			spans[index] = Span{int(raw[index].start), int(raw[index].end)}
		}
		return ids[:count:count], spans, nil
	}
}

func guardTokenBytes(guard rawGuard, token uint32) ([]byte, error) {
	var data *C.uint8_t
	var length C.size_t
	var failure *C.qg_error
	status := C.qg_guard_token_bytes(guard, C.uint32_t(token), &data, &length, &failure)
	return C.GoBytes(unsafe.Pointer(data), C.int(length)), takeError(status, failure)
}

func guardStats(guard rawGuard) (Stats, error) {
	var stats C.qg_stats
	var failure *C.qg_error
	status := C.qg_guard_stats(guard, &stats, &failure)
	return goStats(&stats), takeError(status, failure)
}

func guardMetrics(guard rawGuard) (string, error) {
	var text *C.qg_text
	var failure *C.qg_error
	status := C.qg_guard_metrics(guard, &text, &failure)
	return takeText(status, text, failure)
}

// streamOpen takes nil for the guard's policy.
func streamOpen(guard rawGuard, policy *string) (rawStream, error) {
	var data *C.char
	var length C.size_t
	if policy != nil {
		data, length = chars(cmp.Or(*policy, "\n")) // NULL would be the guard's policy.
	}
	var stream *C.qg_stream
	var failure *C.qg_error
	status := C.qg_stream_open(guard, data, length, &stream, &failure)
	return stream, takeError(status, failure)
}

func streamFree(stream rawStream) { C.qg_stream_free(stream) }

func streamPrompt(stream rawStream, messages []Message) (PromptCheck, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	var check C.qg_prompt_check
	var failure *C.qg_error
	data, count := pinnedMessages(&pins, messages)
	status := C.qg_stream_prompt(stream, data, count, &check, &failure)
	return goCheck(&check), takeError(status, failure)
}

func streamNextTurn(stream rawStream, messages []Message) (PromptCheck, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	var check C.qg_prompt_check
	var failure *C.qg_error
	data, count := pinnedMessages(&pins, messages)
	status := C.qg_stream_next_turn(stream, data, count, &check, &failure)
	return goCheck(&check), takeError(status, failure)
}

func streamPushText(stream rawStream, text string) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	data, length := chars(text)
	status := C.qg_stream_push_text(stream, data, length, &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamPushThinking(stream rawStream, text string) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	data, length := chars(text)
	status := C.qg_stream_push_thinking(stream, data, length, &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamPushTokens(stream rawStream, ids []uint32) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	data, count := tokens(ids)
	status := C.qg_stream_push_tokens(stream, data, count, &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamFinish(stream rawStream) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	status := C.qg_stream_finish(stream, &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamTruncate(stream rawStream, bytes int) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	status := C.qg_stream_truncate(stream, C.size_t(bytes), &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamTruncateTokens(stream rawStream, tokens int) (Update, error) {
	var update C.qg_update
	var failure *C.qg_error
	status := C.qg_stream_truncate_tokens(stream, C.size_t(tokens), &update, &failure)
	return goUpdate(&update), takeError(status, failure)
}

func streamFork(stream rawStream) (rawStream, error) {
	var fork *C.qg_stream
	var failure *C.qg_error
	status := C.qg_stream_fork(stream, &fork, &failure)
	return fork, takeError(status, failure)
}

func streamContextUsed(stream rawStream) (int, error) {
	var tokens C.size_t
	var failure *C.qg_error
	status := C.qg_stream_context_used(stream, &tokens, &failure)
	return int(tokens), takeError(status, failure)
}

func streamTokens(stream rawStream) ([]TokenVerdict, error) {
	raw := make([]C.qg_token_verdict, 16)
	for {
		var count C.size_t
		var failure *C.qg_error
		status := C.qg_stream_tokens(stream, &raw[0], C.size_t(len(raw)), &count, &failure)
		if status != C.QG_OK {
			return nil, takeError(status, failure)
		}
		if int(count) > len(raw) {
			raw = make([]C.qg_token_verdict, count)
			continue
		}
		verdicts := make([]TokenVerdict, count)
		for index := range verdicts {
			verdicts[index] = goToken(&raw[index])
		}
		return verdicts, nil
	}
}

func streamFlags(stream rawStream) ([]Violation, error) {
	raw := make([]C.qg_violation, 4)
	for {
		var count C.size_t
		var failure *C.qg_error
		status := C.qg_stream_flags(stream, &raw[0], C.size_t(len(raw)), &count, &failure)
		if status != C.QG_OK {
			return nil, takeError(status, failure)
		}
		if int(count) > len(raw) {
			raw = make([]C.qg_violation, count)
			continue
		}
		flags := make([]Violation, count)
		for index := range flags {
			flags[index] = goViolation(&raw[index])
		}
		return flags, nil
	}
}

func streamRule(stream rawStream) (string, error) {
	var text *C.qg_text
	var failure *C.qg_error
	status := C.qg_stream_rule(stream, &text, &failure)
	return takeText(status, text, failure)
}

func streamFlagRule(stream rawStream, flag int) (string, error) {
	var text *C.qg_text
	var failure *C.qg_error
	status := C.qg_stream_flag_rule(stream, C.size_t(flag), &text, &failure)
	return takeText(status, text, failure)
}

// streamsCall makes calls of the streams that go with them.
func streamsCall(streams []rawStream, calls []Call) ([]Reply, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, answers := make([]C.qg_call, len(calls)), make([]C.qg_reply, len(calls))
	for index := range calls {
		raw[index] = pinnedCall(&pins, streams[index], &calls[index])
	}
	var failure *C.qg_error
	status := C.qg_streams_call(unsafe.SliceData(raw), C.size_t(len(raw)), unsafe.SliceData(answers), &failure)
	if status != C.QG_OK {
		return nil, takeError(status, failure)
	}
	replies := make([]Reply, len(calls))
	for index := range replies {
		replies[index] = goReply(&answers[index])
	}
	return replies, nil
}

func queueOpen() (rawQueue, error) {
	var queue *C.qg_queue
	var failure *C.qg_error
	status := C.qg_queue_open(&queue, &failure)
	return queue, takeError(status, failure)
}

func queueFree(queue rawQueue) { C.qg_queue_free(queue) }

func queueSubmit(queue rawQueue, stream rawStream, call *Call, tag uint64, timeout time.Duration) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw := pinnedCall(&pins, stream, call)
	var failure *C.qg_error
	status := C.qg_queue_submit(queue, &raw, C.uint64_t(tag), milliseconds(timeout), &failure)
	return takeError(status, failure)
}

// completion is a call that a queue gave back.
type completion struct {
	tag   uint64
	reply Reply
}

// queueWait waits for as long as it takes.
func queueWait(queue rawQueue) ([]completion, error) {
	raw := make([]C.qg_completion, 16)
	var count C.size_t
	var failure *C.qg_error
	status := C.qg_queue_wait(queue, C.QG_NO_TIMEOUT, &raw[0], C.size_t(len(raw)), &count, &failure)
	if status != C.QG_OK {
		return nil, takeError(status, failure)
	}
	completions := make([]completion, count)
	for index := range completions {
		completions[index] = completion{uint64(raw[index].tag), goReply(&raw[index].reply)}
	}
	return completions, nil
}

func queueCancel(queue rawQueue, tag uint64) (int, error) {
	var count C.size_t
	var failure *C.qg_error
	status := C.qg_queue_cancel(queue, C.uint64_t(tag), &count, &failure)
	return int(count), takeError(status, failure)
}

func queueLength(queue rawQueue) (int, error) {
	var calls C.size_t
	var failure *C.qg_error
	status := C.qg_queue_length(queue, &calls, &failure)
	return int(calls), takeError(status, failure)
}
