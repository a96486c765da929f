package qwenguard

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"
)

// Queue takes calls of streams, and annotations, and gives back those that are done, without waiting for each. For any number of goroutines at
// once, and for streams of all guards.
type Queue struct {
	inbox   *inbox
	cleanup runtime.Cleanup
}

// Completion is a call that is done.
type Completion struct {
	// Tag is what the call was submitted with.
	Tag uint64
	// Stream is free for its next call. It is nil for an annotation.
	Stream *Stream
	Reply
}

// inbox has the calls that are done and were not asked for.
type inbox struct {
	calls *calls

	mu          sync.Mutex
	completions []Completion
	// Calls that were submitted and not given back.
	count int
	// Holds something while there are completions.
	arrived chan struct{}
	closed  chan struct{}
}

// OpenQueue makes an empty queue.
func OpenQueue() (*Queue, error) {
	if err := Compatible(); err != nil {
		return nil, err
	}
	calls, err := newCalls()
	if err != nil {
		return nil, err
	}
	done := &inbox{calls: calls, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	queue := &Queue{inbox: done}
	queue.cleanup = runtime.AddCleanup(queue, (*inbox).close, done)
	return queue, nil
}

// Close gives up the calls in the queue; their streams can be used again. Who waits gets ErrClosed. It never fails.
func (q *Queue) Close() error {
	q.cleanup.Stop()
	q.inbox.close()
	return nil
}

// Submit begins a call. It is done when the queue gives it back, with an error of its own if it has one; until then all methods
// of its stream but Close fail with ErrInUse. The tag is yours, to know the call by.
//
// A call that is not done within the timeout is cancelled with ErrDeadlineExceeded; NoTimeout gives it the time it takes. A
// timeout of 0 or less has passed already, and the call comes back with that error.
//
// Submit fails with ErrArgument if a text of a message is not UTF-8; ErrInUse; ErrClosed. Everything else is the error of the
// call.
func (q *Queue) Submit(call Call, tag uint64, timeout time.Duration) error {
	defer runtime.KeepAlive(q)
	if q.inbox == nil {
		return closed("queue")
	}
	return q.inbox.submit(&call, tag, timeout)
}

// Wait waits for a call that is done, then takes all that are, but no more than limit. It waits even while the queue is empty,
// for what others may submit. If the context ends first it fails with ErrCancelled or ErrDeadlineExceeded, and the calls go on.
func (q *Queue) Wait(ctx context.Context, limit int) ([]Completion, error) {
	for {
		if completions, err := q.Poll(limit); len(completions) > 0 || err != nil {
			return completions, err
		}
		select {
		case <-q.inbox.arrived:
		case <-q.inbox.closed:
		case <-ctx.Done():
			return nil, endedAnd(ctx, "calls in the queue go on")
		}
	}
}

// Poll takes what is done, but no more than limit, and does not wait.
func (q *Queue) Poll(limit int) ([]Completion, error) {
	defer runtime.KeepAlive(q)
	if limit < 1 {
		return nil, &Error{Status: ErrArgument, Message: "argument limit: it leaves no room for a call"}
	}
	if q.inbox == nil || q.inbox.calls.queue.isClosed() {
		return nil, closed("queue")
	}
	return q.inbox.take(limit), nil
}

// Cancel gives up the calls with this tag that are not done, also while the model computes them, and tells how many there
// were. They come back as all calls do, with ErrCancelled.
func (q *Queue) Cancel(tag uint64) (int, error) {
	defer runtime.KeepAlive(q)
	if q.inbox == nil {
		return 0, closed("queue")
	}
	return q.inbox.calls.cancel(tag)
}

// Len tells how many calls were not given back yet.
func (q *Queue) Len() int {
	defer runtime.KeepAlive(q)
	if q.inbox == nil {
		return 0
	}
	return q.inbox.length()
}

func (i *inbox) submit(call *Call, tag uint64, timeout time.Duration) error {
	stream := call.stream
	if stream != nil && !stream.queued.CompareAndSwap(false, true) {
		return inUse()
	}
	i.expect(1)
	_, err := i.calls.submit(call, tag, timeout, func(reply Reply) { i.put(Completion{tag, stream, reply}) })
	if err != nil {
		i.expect(-1)
		if stream != nil {
			stream.queued.Store(false)
		}
	}
	return err
}

func (i *inbox) expect(count int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count += count
}

func (i *inbox) put(completion Completion) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.completions = append(i.completions, completion)
	i.signal()
}

// take gives completions back, and their streams.
func (i *inbox) take(limit int) []Completion {
	i.mu.Lock()
	defer i.mu.Unlock()
	count := min(limit, len(i.completions))
	taken := i.completions[:count:count]
	i.completions = i.completions[count:]
	i.count -= count
	for _, completion := range taken {
		if completion.Stream != nil {
			completion.Stream.queued.Store(false)
		}
	}
	if len(i.completions) > 0 {
		i.signal()
	}
	return taken
}

func (i *inbox) signal() {
	select {
	case i.arrived <- struct{}{}:
	default:
	}
}

func (i *inbox) length() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count
}

// close gives up all calls, and waits until their streams can be used again.
func (i *inbox) close() {
	if i == nil || !i.calls.close() {
		return
	}
	close(i.closed)
	i.take(math.MaxInt)
}
