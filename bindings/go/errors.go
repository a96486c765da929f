package qwenguard

// #include <qwenguard.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
)

// Status says how a call failed. Its values are errors to compare with:
//
//	if errors.Is(err, qwenguard.ErrBusy) { ... }
//
// Later versions of the library may have more of them.
type Status int32

const (
	statusOK Status = C.QG_OK

	// ErrRuntimeNotFound: the ONNX Runtime library was found nowhere; the message lists where. Set ORT_DYLIB_PATH or
	// [Options.RuntimeLibrary], or put it beside the library.
	ErrRuntimeNotFound Status = C.QG_ERROR_RUNTIME_NOT_FOUND
	// ErrRuntimeUnusable: an ONNX Runtime library was found but cannot be used: too old, not loadable, or not the one that
	// the process uses already.
	ErrRuntimeUnusable Status = C.QG_ERROR_RUNTIME_UNUSABLE
	// ErrProvider: the execution provider that was asked for cannot be had here.
	ErrProvider Status = C.QG_ERROR_PROVIDER
	// ErrConfig: a setting of the configuration or of a policy is wrong; the message names it.
	ErrConfig Status = C.QG_ERROR_CONFIG
	// ErrBundleFile: a file of the bundle is missing, unreadable or damaged.
	ErrBundleFile Status = C.QG_ERROR_BUNDLE_FILE
	// ErrBundleField: the bundle's guard.toml says something that this library cannot accept.
	ErrBundleField Status = C.QG_ERROR_BUNDLE_FIELD
	// ErrBundleFormat: the bundle was made in a format that this version does not read.
	ErrBundleFormat Status = C.QG_ERROR_BUNDLE_FORMAT
	// ErrConversation: the conversation cannot be rendered, or there is nothing in it to judge.
	ErrConversation Status = C.QG_ERROR_CONVERSATION
	// ErrArgument: an argument is out of its documented range; the message names it.
	ErrArgument Status = C.QG_ERROR_ARGUMENT
	// ErrWrongState: the call has no meaning at this moment, such as an answer before its prompt.
	ErrWrongState Status = C.QG_ERROR_WRONG_STATE
	// ErrContextFull: the conversation does not fit the model's context, or the KV cache if that is smaller. Nothing was
	// added.
	ErrContextFull Status = C.QG_ERROR_CONTEXT_FULL
	// ErrBusy: a limit is reached that passes with time. Try again later, or close streams.
	ErrBusy Status = C.QG_ERROR_BUSY
	// ErrOutOfMemory: memory could not be had.
	ErrOutOfMemory Status = C.QG_ERROR_OUT_OF_MEMORY
	// ErrInference: ONNX Runtime failed to load or run the graph.
	ErrInference Status = C.QG_ERROR_INFERENCE
	// ErrEngineStopped: the guard's engine has stopped after a failure it could not contain. Open the guard again.
	ErrEngineStopped Status = C.QG_ERROR_ENGINE_STOPPED
	// ErrDeadlineExceeded: the deadline passed before the tokens were computed. Nothing was added. Such an error is
	// [context.DeadlineExceeded] and the cause of its context as well.
	ErrDeadlineExceeded Status = C.QG_ERROR_DEADLINE_EXCEEDED
	// ErrExpired: the stream was idle for longer than the configuration allows. Open a new one and give it the
	// conversation again.
	ErrExpired Status = C.QG_ERROR_EXPIRED
	// ErrCancelled: the call was cancelled. Nothing was added. Such an error is [context.Canceled] and the cause of its
	// context as well.
	ErrCancelled Status = C.QG_ERROR_CANCELLED
	// ErrNull: something is missing that must be there, such as the stream of a call; the message names it.
	ErrNull Status = C.QG_ERROR_NULL
	// ErrEnum: a number is none of the values that the argument can have; the message names the argument.
	ErrEnum Status = C.QG_ERROR_ENUM
	// ErrInUse: the stream is in another call, or in a queue.
	ErrInUse Status = C.QG_ERROR_IN_USE
	// ErrPanic: a bug of the library. The stream that it happened on stays unusable; close it.
	ErrPanic Status = C.QG_ERROR_PANIC
)

// ErrClosed is what calls of a guard, stream or queue fail with that is closed, or that was never opened.
var ErrClosed = errors.New("already closed")

func closed(object string) error { return fmt.Errorf("qwenguard: %s %w", object, ErrClosed) }

func inUse() error {
	return &Error{Status: ErrInUse, Message: "the stream is in use, by another thread or in a queue"}
}

// String is the name of the status in qwenguard.h, such as "QG_ERROR_BUSY".
func (s Status) String() string {
	if name := statusName(int32(s)); name != "" {
		return name
	}
	return fmt.Sprintf("Status(%d)", int32(s))
}

func (s Status) Error() string { return "qwenguard: " + s.String() }

// Error is why a call failed. The stream is as it was before the call.
type Error struct {
	Status  Status
	Message string
	// Of a call whose context has ended: why it has.
	cause error
}

func (e *Error) Error() string { return "qwenguard: " + e.Message }

// Is tells whether the error has the status that is the target.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Status == ErrCancelled
	case context.DeadlineExceeded:
		return e.Status == ErrDeadlineExceeded
	}
	return target == e.Status
}

// Unwrap gives the [context.Cause] of a call whose context has ended, for errors.Is and errors.As; else nil.
func (e *Error) Unwrap() error { return e.cause }

// ended is the error of a call whose context has ended.
func ended(ctx context.Context) error { return endedAnd(ctx, "nothing was added") }

// endedAnd is an error because a context has ended, with what follows from that.
func endedAnd(ctx context.Context, consequence string) error {
	failure := &Error{ErrCancelled, "the context was cancelled", context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		failure.Status, failure.Message = ErrDeadlineExceeded, "the context's deadline passed"
	}
	if failure.cause != ctx.Err() {
		failure.Message += ", " + failure.cause.Error()
	}
	failure.Message += "; " + consequence
	return failure
}
