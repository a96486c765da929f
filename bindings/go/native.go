package qwenguard

// From what Go has to what the functions in raw.go take, and back.

/*
#include <qwenguard.h>
#if defined(__linux__) && !defined(__GLIBC__)
#error "musl is not supported: build with glibc, for example in debian:stable-slim instead of Alpine"
#endif
*/
import "C"

import (
	"math"
	"runtime"
	"time"
	"unsafe"
)

type (
	rawOptions = C.qg_guard_options
	rawMessage = C.qg_message
)

const (
	builtABI     = C.QG_ABI_VERSION
	builtVersion = C.QG_VERSION_NUMBER
)

// NoTimeout gives a call the time it takes.
const NoTimeout time.Duration = math.MaxInt64

const (
	callPrompt         = C.QG_CALL_PROMPT
	callNextTurn       = C.QG_CALL_NEXT_TURN
	callPushText       = C.QG_CALL_PUSH_TEXT
	callPushThinking   = C.QG_CALL_PUSH_THINKING
	callPushTokens     = C.QG_CALL_PUSH_TOKENS
	callFinish         = C.QG_CALL_FINISH
	callTruncate       = C.QG_CALL_TRUNCATE
	callTruncateTokens = C.QG_CALL_TRUNCATE_TOKENS
)

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

func pinnedMessages(pins *runtime.Pinner, messages []Message) []C.qg_message {
	raw := make([]C.qg_message, len(messages))
	for index, message := range messages {
		raw[index].role, raw[index].role_length = pinnedChars(pins, message.Role)
		raw[index].content, raw[index].content_length = pinnedChars(pins, message.Content)
	}
	return raw
}

func pinnedCall(pins *runtime.Pinner, stream rawStream, call *Call) C.qg_call {
	raw := C.qg_call{stream: stream, kind: C.uint32_t(call.kind)}
	switch call.kind {
	case callPrompt, callNextTurn:
		if messages := pinnedMessages(pins, call.messages); len(messages) > 0 {
			pins.Pin(&messages[0])
			raw.data, raw.length = unsafe.Pointer(&messages[0]), C.size_t(len(messages))
		}
	case callPushText, callPushThinking:
		text, length := pinnedChars(pins, call.text)
		raw.data, raw.length = unsafe.Pointer(text), length
	case callPushTokens:
		if len(call.ids) > 0 {
			pins.Pin(unsafe.SliceData(call.ids))
			ids, count := tokens(call.ids)
			raw.data, raw.length = unsafe.Pointer(ids), count
		}
	case callTruncate, callTruncateTokens:
		raw.length = C.size_t(call.keep)
	}
	return raw
}

func pinnedOptions(pins *runtime.Pinner, options *Options) (*C.qg_guard_options, error) {
	raw := new(C.qg_guard_options)
	err := guardOptionsInit(raw, uint32(unsafe.Sizeof(*raw)))
	if options != nil {
		raw.threads = C.uint32_t(options.Threads)
		raw.cache_mib = C.uint64_t(options.CacheMiB)
		raw.config_toml, raw.config_toml_length = pinnedChars(pins, options.Config)
		raw.runtime_library, raw.runtime_library_length = pinnedChars(pins, options.RuntimeLibrary)
	}
	return raw, err
}

func milliseconds(timeout time.Duration) uint64 {
	switch {
	case timeout == NoTimeout:
		return C.QG_NO_TIMEOUT
	case timeout <= 0:
		return 0
	}
	return uint64((timeout-1)/time.Millisecond) + 1
}

// takeError frees the error that a call gave.
func takeError(status C.qg_status, raw rawError) error {
	if status == C.QG_OK {
		return nil
	}
	defer errorFree(raw)
	return &Error{Status: Status(status), Message: errorMessage(raw)}
}

// takeText frees a text that a call gave.
func takeText(text rawText) string {
	defer textFree(text)
	return textData(text)
}

// withOptions makes a call that takes options.
func withOptions[T any](options *Options, call func(*C.qg_guard_options) (T, error)) (T, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, err := pinnedOptions(&pins, options)
	if err == nil {
		err = loadBundledRuntime(options)
	}
	if err != nil {
		var none T
		return none, err
	}
	result, err := call(raw)
	if loadOwnRuntime(options, err) {
		return call(raw)
	}
	return result, err
}

// promptRaw makes a call that takes messages.
func promptRaw(call func(rawStream, []C.qg_message) (PromptCheck, error), stream rawStream,
	messages []Message) (PromptCheck, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	return call(stream, pinnedMessages(&pins, messages))
}

func encode(guard rawGuard, text string) ([]uint32, []Span, error) {
	room := len(text)/2 + 8
	for {
		ids, raw := make([]uint32, room), make([]C.qg_span, room)
		count, err := guardEncode(guard, text, ids, raw)
		if err != nil {
			return nil, nil, err
		}
		if count > room {
			room = count
			continue
		}
		spans := make([]Span, count)
		for index := range spans {
			spans[index] = Span{int(raw[index].start), int(raw[index].end)}
		}
		return ids[:count:count], spans, nil
	}
}

// details copies what the last update found: in one call, if it is not more than what is usual.
func details[R, T any](stream rawStream, usual int, copy func(rawStream, []R) (int, error),
	convert func(*R) T) ([]T, error) {
	raw := make([]R, usual)
	for {
		count, err := copy(stream, raw)
		if err != nil {
			return nil, err
		}
		if count > len(raw) {
			raw = make([]R, count)
			continue
		}
		found := make([]T, count)
		for index := range found {
			found[index] = convert(&raw[index])
		}
		return found, nil
	}
}

func tokenVerdicts(stream rawStream) ([]TokenVerdict, error) {
	return details(stream, 16, streamTokens, goToken)
}

func flags(stream rawStream) ([]Violation, error) {
	return details(stream, 4, streamFlags, goViolation)
}

func opinions(stream rawStream) ([]Opinion, error) {
	return details(stream, 4, streamOpinions, goOpinion)
}

// callAll makes calls of the streams that go with them.
func callAll(streams []rawStream, calls []Call) ([]Reply, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, answers := make([]C.qg_call, len(calls)), make([]C.qg_reply, len(calls))
	for index := range calls {
		raw[index] = pinnedCall(&pins, streams[index], &calls[index])
	}
	if err := streamsCall(raw, unsafe.SliceData(answers)); err != nil {
		return nil, err
	}
	replies := make([]Reply, len(calls))
	for index := range replies {
		replies[index] = goReply(&answers[index])
	}
	return replies, nil
}

func submit(queue rawQueue, stream rawStream, call *Call, tag uint64, timeout time.Duration) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw := pinnedCall(&pins, stream, call)
	return queueSubmit(queue, &raw, tag, milliseconds(timeout))
}

func annotateOptions(options *AnnotateOptions) *C.qg_annotate_options {
	if options == nil {
		options = &AnnotateOptions{}
	}
	return &C.qg_annotate_options{
		struct_size: C.sizeof_qg_annotate_options,
		decoding:    C.uint32_t(options.Decoding),
		overflow:    C.uint32_t(options.Overflow),
	}
}

func annotate(guard rawGuard, messages []Message, options *AnnotateOptions) (*Annotation, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, err := guardAnnotate(guard, pinnedMessages(&pins, messages), annotateOptions(options))
	if err != nil {
		return nil, err
	}
	return newAnnotation(raw)
}

func annotateAll(guard rawGuard, conversations [][]Message, options *AnnotateOptions) ([]Reply, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	raw, results := make([]C.qg_conversation, len(conversations)), make([]C.qg_annotation_result, len(conversations))
	for index, conversation := range conversations {
		if messages := pinnedMessages(&pins, conversation); len(messages) > 0 {
			pins.Pin(&messages[0])
			raw[index].messages, raw[index].message_count = &messages[0], C.size_t(len(messages))
		}
	}
	if err := guardAnnotateAll(guard, raw, annotateOptions(options), unsafe.SliceData(results)); err != nil {
		return nil, err
	}
	replies := make([]Reply, len(conversations))
	for index := range results {
		if err := takeError(results[index].status, results[index].error); err != nil {
			replies[index].Err = err
		} else {
			replies[index].Annotation, replies[index].Err = newAnnotation(results[index].annotation)
		}
	}
	return replies, nil
}

func submitAnnotation(queue rawQueue, call *Call, tag uint64, timeout time.Duration) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	messages := pinnedMessages(&pins, call.messages)
	return queueAnnotate(queue, call.guard.handle.raw, messages, annotateOptions(&call.options), tag, milliseconds(timeout))
}

// readAnnotation gives a value of Go of what the library has.
func readAnnotation(raw rawAnnotation) (*Annotation, error) {
	var info C.qg_annotation_info
	if err := annotationGet(raw, &info); err != nil {
		return nil, err
	}
	names := make([]string, info.mode_category_count)
	for index := range names {
		name, err := annotationCategoryName(raw, uint32(index))
		if err != nil {
			return nil, err
		}
		names[index] = name
	}
	annotation := goAnnotation(&info, names)
	var err error
	if annotation.Answer, err = annotationAnswer(raw); err != nil {
		return nil, err
	}
	annotation.Judgement, err = judge(raw, "")
	return annotation, err
}

func judge(annotation rawAnnotation, policy string) (Judgement, error) {
	var raw C.qg_judgement
	rule, err := annotationJudge(annotation, policy, &raw)
	if err != nil {
		return Judgement{}, err
	}
	judgement := Judgement{Decision: Decision(raw.decision)}
	if raw.has_finding != 0 {
		finding := &AnnotationFinding{
			Action:      Action(raw.action),
			Risk:        Risk(raw.risk),
			Probability: float32(raw.probability),
			Rule:        rule,
		}
		if raw.category >= 0 {
			if finding.Category, err = annotationCategoryName(annotation, uint32(raw.category)); err != nil {
				return Judgement{}, err
			}
		}
		judgement.Finding = finding
	}
	return judgement, nil
}

// completion is a call that a queue gave back.
type completion struct {
	tag   uint64
	reply Reply
}

// wait waits for as long as it takes.
func wait(queue rawQueue) ([]completion, error) {
	raw := make([]C.qg_completion, 16)
	count, err := queueWait(queue, milliseconds(NoTimeout), raw)
	if err != nil {
		return nil, err
	}
	completions := make([]completion, count)
	for index := range completions {
		completions[index] = completion{uint64(raw[index].tag), goCompletion(&raw[index])}
	}
	return completions, nil
}
