package qwenguard

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	guard := openNano(t)
	queue := must(OpenQueue())(t)
	defer queue.Close()
	stream := must(guard.NewStream())(t)
	for _, call := range []Call{
		stream.CallPrompt(User("Hello")), stream.CallPushText("Hi "), stream.CallPushText(""), stream.CallFinish(),
		stream.CallNextTurn(User("And now?")), stream.CallPushThinking("Hm."), stream.CallFinish(),
		stream.CallPrompt(), stream.CallPrompt(User("Hello")), stream.CallPushTokens([]uint32{44}), stream.CallPushTokens(nil),
		stream.CallTruncateTokens(1), stream.CallTruncate(0),
	} {
		if err := queue.Submit(call, math.MaxUint64, time.Minute); err != nil {
			t.Fatal(err)
		}
		if queue.Len() != 1 {
			t.Fatal(queue.Len())
		}
		// Done is not given back.
		eventually(t, func() bool {
			queue.inbox.mu.Lock()
			defer queue.inbox.mu.Unlock()
			return len(queue.inbox.completions) == 1
		})
		for name, other := range streamCalls(t, stream) {
			if err := other(); !errors.Is(err, ErrInUse) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		replies := must(CallAll(context.Background(), stream.CallFinish()))(t)
		fails(t, replies[0].Err, ErrInUse, "in use")
		fails(t, queue.Submit(call, 2, NoTimeout), ErrInUse, "in use")
		done := must(queue.Wait(t.Context(), 64))(t)
		if len(done) != 1 || done[0].Tag != math.MaxUint64 || done[0].Stream != stream || queue.Len() != 0 {
			t.Fatalf("%+v", done)
		}
		isCheck := call.kind == callPrompt || call.kind == callNextTurn
		if len(call.messages) == 0 && isCheck {
			fails(t, done[0].Err, ErrConversation, "user")
		} else if done[0].Err != nil || (done[0].Check != nil) != isCheck || (done[0].Update != nil) == isCheck {
			t.Fatalf("%+v", done[0])
		}
		must(stream.ContextUsed())(t)
	}
	fails(t, queue.Submit(Call{}, 0, NoTimeout), ErrNull, "call")
	fails(t, queue.Submit(stream.CallTruncate(-1), 0, NoTimeout), ErrArgument, "-1 is negative")
	fails(t, queue.Submit(stream.CallPrompt(User("\xff")), 0, NoTimeout), ErrArgument, "messages.content")
	must(stream.ContextUsed())(t)
	_, err := queue.Wait(t.Context(), 0)
	fails(t, err, ErrArgument, "limit")
	if done := must(queue.Poll(1))(t); len(done) != 0 {
		t.Fatal(done)
	}
	if count := must(queue.Cancel(9))(t); count != 0 {
		t.Fatal(count)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = queue.Wait(ctx, 1)
	fails(t, err, context.DeadlineExceeded, "passed; calls in the queue go on")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("the host leaves"))
	_, err = queue.Wait(ctx, 1)
	fails(t, err, ErrCancelled, "cancelled, the host leaves; calls in the queue go on")
}

func TestQueueGivesCallsUp(t *testing.T) {
	guard := openNano(t)
	occupy(t, guard)
	queue := must(OpenQueue())(t)
	defer queue.Close()
	late, cancelled, kept := prompted(t, guard), prompted(t, guard), prompted(t, guard)
	for tag, stream := range []*Stream{late, cancelled, kept} {
		timeout := NoTimeout
		if stream == late {
			timeout = -time.Second
		}
		if err := queue.Submit(stream.CallPushText(long), uint64(tag), timeout); err != nil {
			t.Fatal(err)
		}
	}
	if count := must(queue.Cancel(1))(t); count != 1 {
		t.Fatal(count)
	}
	for queue.Len() > 0 {
		for _, done := range must(queue.Wait(t.Context(), 1))(t) {
			switch done.Stream {
			case late:
				fails(t, done.Err, ErrDeadlineExceeded, "deadline")
			case cancelled:
				fails(t, done.Err, ErrCancelled, "cancelled")
			default:
				if done.Err != nil || done.Update.Received != len(long) {
					t.Fatal(done)
				}
			}
			must(done.Stream.PushText(t.Context(), "a"))(t)
		}
	}
}

func TestCloseWhileAQueueHasTheCall(t *testing.T) {
	guard := openNano(t)
	occupy(t, guard)
	queue := must(OpenQueue())(t)
	stream := prompted(t, guard)
	if err := queue.Submit(stream.CallPushText(long), 7, NoTimeout); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	done := must(queue.Wait(t.Context(), 5))(t)
	if len(done) != 1 || done[0].Tag != 7 || done[0].Stream != stream {
		t.Fatal(done)
	}
	fails(t, done[0].Err, ErrCancelled, "")
	_, err := stream.Tokens()
	fails(t, err, ErrClosed, "")

	stream = prompted(t, guard)
	if err := queue.Submit(stream.CallPushText(long), 7, NoTimeout); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	empty := must(OpenQueue())(t)
	go func() {
		_, err := empty.Wait(context.Background(), 1)
		waits <- err
	}()
	guard.Close()
	queue.Close()
	must(stream.PushText(t.Context(), "free again"))(t)
	empty.Close()
	fails(t, <-waits, ErrClosed, "queue")
}

func TestCloseAQueueAtAnyMoment(t *testing.T) {
	guard := openNano(t)
	for round := range 60 {
		queue := must(OpenQueue())(t)
		stream := prompted(t, guard)
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			for {
				err := queue.Submit(stream.CallPushText("a "), 1, NoTimeout)
				if err == nil {
					_, err = queue.Wait(context.Background(), 1)
				}
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		}()
		time.Sleep(time.Duration(round) * 20 * time.Microsecond)
		queue.Close()
		<-finished
		must(stream.PushText(context.Background(), "b"))(t)
		stream.Close()
	}
	eventually(t, func() bool { return must(guard.Stats())(t).OpenStreams == 0 })
}
