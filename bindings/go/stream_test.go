package qwenguard

import (
	"context"
	"errors"
	"reflect"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

// streamCalls are all methods of a stream that can fail. Those with a context come twice.
func streamCalls(t *testing.T, stream *Stream) map[string]func() error {
	calls := map[string]func() error{
		"Fork":        func() error { _, err := stream.Fork(); return err },
		"ContextUsed": func() error { _, err := stream.ContextUsed(); return err },
		"Tokens":      func() error { _, err := stream.Tokens(); return err },
		"Flags":       func() error { _, err := stream.Flags(); return err },
		"Rule":        func() error { _, err := stream.Rule(); return err },
		"FlagRule":    func() error { _, err := stream.FlagRule(0); return err },
	}
	for name, ctx := range map[string]context.Context{"": context.Background(), ", given up": t.Context()} {
		calls["Prompt"+name] = func() error { _, err := stream.Prompt(ctx, User("Hello")); return err }
		calls["NextTurn"+name] = func() error { _, err := stream.NextTurn(ctx, User("Hello")); return err }
		calls["PushText"+name] = func() error { _, err := stream.PushText(ctx, "Hi"); return err }
		calls["PushThinking"+name] = func() error { _, err := stream.PushThinking(ctx, "Hi"); return err }
		calls["PushTokens"+name] = func() error { _, err := stream.PushTokens(ctx, []uint32{1}); return err }
		calls["Finish"+name] = func() error { _, err := stream.Finish(ctx); return err }
		calls["Truncate"+name] = func() error { _, err := stream.Truncate(ctx, 0); return err }
		calls["TruncateTokens"+name] = func() error { _, err := stream.TruncateTokens(ctx, 0); return err }
	}
	return calls
}

// long takes the model some time.
var long = strings.Repeat("and then we ", 500)

func TestErrors(t *testing.T) {
	guard := openNano(t)
	_, err := guard.NewStreamWithPolicy("answer.categories.Spam.at = 0.5")
	fails(t, err, ErrConfig, "Spam")
	stream := must(guard.NewStreamWithPolicy(""))(t)
	defer stream.Close()
	_, err = stream.Finish(t.Context())
	fails(t, err, ErrWrongState, "before the prompt")
	_, err = stream.Prompt(t.Context())
	fails(t, err, ErrConversation, "user")
	_, err = stream.Prompt(context.Background(), User("a\xff"))
	fails(t, err, ErrArgument, "messages.content")
	_, err = stream.Prompt(t.Context(), User("a\xff"))
	fails(t, err, ErrArgument, "messages.content")
	must(stream.Prompt(t.Context(), System("Be brief."), User("Hello")))(t)
	_, err = stream.PushText(t.Context(), "ab\xffc")
	fails(t, err, ErrArgument, "byte 2")
	_, err = stream.PushTokens(t.Context(), []uint32{4000000000})
	fails(t, err, ErrArgument, "4000000000")
	for _, call := range []func() error{
		func() error { _, err := stream.Truncate(t.Context(), -1); return err },
		func() error { _, err := stream.TruncateTokens(context.Background(), -1); return err },
		func() error { return must(CallAll(context.Background(), stream.CallTruncate(-1)))(t)[0].Err },
		func() error { return must(CallAll(context.Background(), stream.CallTruncateTokens(-1)))(t)[0].Err },
		func() error { _, err := stream.FlagRule(-1); return err },
	} {
		fails(t, call(), ErrArgument, "-1 is negative")
	}
	_, err = stream.FlagRule(3)
	fails(t, err, ErrArgument, "flag")
	var failure *Error
	if !errors.As(err, &failure) || failure.Status != ErrArgument || errors.Is(err, ErrBusy) || failure.Message == "" {
		t.Fatalf("%#v", err)
	}
}

// The guard's policy, which an empty text means too, and a policy without rules.
func TestPolicies(t *testing.T) {
	guard := must(OpenNano(&Options{Config: "policy.shadow = true"}))(t)
	defer guard.Close()
	for policy, decision := range map[string]Decision{"": DecisionContinue, "# strict": DecisionStop} {
		stream := must(guard.NewStreamWithPolicy(policy))(t)
		must(stream.Prompt(t.Context(), User("Hello")))(t)
		if update := must(stream.PushText(t.Context(), violent))(t); update.Decision != decision || update.Violation == nil {
			t.Fatalf("%+v", update)
		}
		stream.Close()
	}
}

func TestTextThatIsSplitAnywhere(t *testing.T) {
	guard := openNano(t)
	text := "NUL \x00, ümlaut, 漢字, 🦉 and \u0958 once more."
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		stream := prompted(t, guard)
		var update Update
		for index := range len(text) {
			update = must(stream.PushText(ctx, text[index:index+1]))(t)
			if update.Received != index+1 || update.Horizon > index+1 {
				t.Fatalf("%d: %+v", index, update)
			}
		}
		if update = must(stream.Finish(ctx))(t); update.Horizon != len(text) {
			t.Fatalf("%+v", update)
		}
	}
	if check := must(prompted(t, guard).Prompt(t.Context(), User(text)))(t); check.Decision != DecisionContinue {
		t.Fatalf("%+v", check)
	}
}

func TestForkAndLists(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	if tokens := must(stream.Tokens())(t); len(tokens) != 0 {
		t.Fatal(tokens)
	}
	fork := must(stream.Fork())(t)
	update := must(fork.PushText(t.Context(), long))(t)
	tokens := must(fork.Tokens())(t)
	if len(tokens) != update.TokenCount || len(tokens) < 500 || tokens[0].Verdict.Category != -1 {
		t.Fatal(len(tokens), update.TokenCount)
	}
	if probabilities := tokens[0].Verdict.CategoryProbabilities(); len(probabilities) != 8 || cap(probabilities) != 8 {
		t.Fatal(probabilities)
	}
	if must(fork.ContextUsed())(t) <= must(stream.ContextUsed())(t) {
		t.Fatal("the fork does not go its own way")
	}
	fork.Close()
	must(stream.PushText(t.Context(), "Hi."))(t)

	flagging := must(guard.NewStreamWithPolicy(`answer.debounce = { consecutive = 1 }
		answer.mode = { custom = { unsafe = { at = 0.97, action = 'flag' }, controversial = { action = 'ignore' } } }`))(t)
	must(flagging.Prompt(t.Context(), User("Hello")))(t)
	update = must(flagging.PushText(t.Context(), strings.Repeat(violent+" "+harmless+" ", 15)))(t)
	if flags := must(flagging.Flags())(t); len(flags) != update.FlagCount || len(flags) <= 4 {
		t.Fatal(len(flags), update.FlagCount)
	}
	flagging.Close()
}

func TestContextEnds(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	before := must(stream.ContextUsed())(t)
	occupy(t, guard)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err := stream.PushText(ctx, long)
	fails(t, err, ErrDeadlineExceeded, "nothing was added")
	fails(t, err, context.DeadlineExceeded, "")

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	_, err = stream.PushText(ctx, long)
	fails(t, err, ErrCancelled, "nothing was added")
	fails(t, err, context.Canceled, "")

	_, err = stream.Prompt(ctx, User("Hello"))
	fails(t, err, context.Canceled, "")
	if after := must(stream.ContextUsed())(t); after != before {
		t.Fatal(before, after)
	}
	if update := must(stream.PushText(t.Context(), "Hi."))(t); update.Received != 3 {
		t.Fatalf("%+v", update)
	}
}

func TestContextCauses(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	occupy(t, guard)
	left := errors.New("the user left")

	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(5*time.Millisecond, func() { cancel(left) })
	_, err := stream.PushText(ctx, long)
	for _, wanted := range []error{left, context.Canceled, ErrCancelled} {
		fails(t, err, wanted, "the context was cancelled, the user left; nothing was added")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}

	ctx, stop := context.WithTimeoutCause(t.Context(), 5*time.Millisecond, left)
	defer stop()
	_, err = stream.PushText(ctx, long)
	for _, wanted := range []error{left, context.DeadlineExceeded, ErrDeadlineExceeded} {
		fails(t, err, wanted, "the context's deadline passed, the user left; nothing was added")
	}
	queue := must(OpenQueue())(t)
	defer queue.Close()
	_, err = queue.Wait(ctx, 1)
	fails(t, err, left, "deadline")
	var failure *Error
	if !errors.As(err, &failure) || failure.Status != ErrDeadlineExceeded {
		t.Fatal(err)
	}
	_, err = stream.Finish(context.Background())
	if err != nil || errors.Unwrap(&Error{Status: ErrBusy}) != nil {
		t.Fatal(err)
	}
}

func TestCallAllWithAContext(t *testing.T) {
	guard := openNano(t)
	one, other := prompted(t, guard), prompted(t, guard)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	replies := must(CallAll(ctx, one.CallPushText("Hi "), other.CallPushText("Hello "), one.CallFinish(), Call{}))(t)
	if replies[0].Update.Received != 3 || replies[1].Update.Received != 6 {
		t.Fatalf("%+v", replies)
	}
	fails(t, replies[2].Err, ErrInUse, "in use")
	fails(t, replies[3].Err, ErrNull, "call")
	if replies := must(CallAll(ctx))(t); len(replies) != 0 {
		t.Fatal(replies)
	}

	occupy(t, guard)
	time.AfterFunc(5*time.Millisecond, cancel)
	for _, reply := range must(CallAll(ctx, one.CallPushText(long), other.CallTruncate(0)))(t) {
		// What the model had done when the context ended stays done.
		if reply.Err != nil {
			fails(t, reply.Err, context.Canceled, "nothing was added")
		}
	}
	for _, reply := range must(CallAll(ctx, one.CallPushText(long), other.CallFinish()))(t) {
		fails(t, reply.Err, ErrCancelled, "nothing was added")
	}
	must(one.PushText(t.Context(), "a"))(t)
	must(other.PushText(t.Context(), "a"))(t)
}

// occupy gives the model work for a while.
func occupy(t *testing.T, guard *Guard) {
	t.Helper()
	queue := must(OpenQueue())(t)
	t.Cleanup(func() { _ = queue.Close() })
	for tag := range uint64(4) {
		stream := prompted(t, guard)
		if err := queue.Submit(stream.CallPushText(strings.Repeat("x", int(tag))+long), tag, NoTimeout); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoGoroutinesOnAStream(t *testing.T) {
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		guard := openNano(t)
		stream := prompted(t, guard)
		occupy(t, guard)
		done := make(chan error)
		go func() {
			_, err := stream.PushText(ctx, long)
			done <- err
		}()
		eventually(t, func() bool {
			_, err := stream.ContextUsed()
			return errors.Is(err, ErrInUse)
		})
		for name, call := range streamCalls(t, stream) {
			if err := call(); !errors.Is(err, ErrInUse) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		must(stream.ContextUsed())(t)
	}
}

// Closing does not free what a call uses, and the call does not keep it for ever.
func TestCloseDuringACall(t *testing.T) {
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		guard := openNano(t)
		stream := must(guard.NewStream())(t)
		must(stream.Prompt(t.Context(), User("Hello")))(t)
		done := make(chan error)
		go func() {
			_, err := stream.PushText(ctx, long)
			done <- err
		}()
		eventually(t, func() bool {
			_, err := stream.ContextUsed()
			return errors.Is(err, ErrInUse)
		})
		stream.Close()
		if err := <-done; err != nil && (ctx.Done() == nil || !errors.Is(err, ErrCancelled)) {
			t.Fatal(err)
		}
		eventually(t, func() bool { return must(guard.Stats())(t).OpenStreams == 0 })
	}
}

func TestCloseAtAnyMoment(t *testing.T) {
	guard := openNano(t)
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		for round := range 60 {
			stream := prompted(t, guard)
			var group sync.WaitGroup
			group.Add(2)
			go func() {
				defer group.Done()
				for {
					if _, err := stream.PushText(ctx, "a "); err != nil {
						if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrCancelled) {
							t.Error(err)
						}
						return
					}
				}
			}()
			go func() {
				defer group.Done()
				time.Sleep(time.Duration(round) * 20 * time.Microsecond)
				stream.Close()
			}()
			group.Wait()
		}
	}
	eventually(t, func() bool { return must(guard.Stats())(t).OpenStreams == 0 })
}

func TestManyGoroutinesOnAGuard(t *testing.T) {
	guard := openNano(t)
	talk := func(ctx context.Context) []Update {
		stream := must(guard.NewStream())(t)
		defer stream.Close()
		if _, err := stream.Prompt(ctx, User("How do I clean the kitchen?")); err != nil {
			t.Error(err)
		}
		var updates []Update
		for _, piece := range strings.SplitAfter("Wipe the counters with warm water. "+violent, " ") {
			update, err := stream.PushText(ctx, piece)
			if err != nil {
				t.Error(err)
			}
			updates = append(updates, update)
		}
		return updates
	}
	wanted := talk(context.Background())
	var group sync.WaitGroup
	for index := range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			ctx := context.Background()
			if index%2 == 0 {
				ctx = t.Context()
			}
			for range 3 {
				if found := talk(ctx); !alike(found, wanted) {
					t.Errorf("%+v\nnot\n%+v", found, wanted)
				}
			}
		}()
	}
	group.Wait()
}

// alike compares updates, but for the last digits of probabilities.
func alike(found, wanted []Update) bool {
	strip := func(updates []Update) []Update {
		var stripped []Update
		for _, update := range updates {
			if update.Violation != nil {
				violation := *update.Violation
				violation.Probability = 0
				update.Violation = &violation
			}
			stripped = append(stripped, update)
		}
		return stripped
	}
	return reflect.DeepEqual(strip(found), strip(wanted))
}

// However many calls wait with a context, they keep one thread.
func TestWaitingCallsShareAThread(t *testing.T) {
	guard := openNano(t)
	var streams []*Stream
	for range 60 {
		streams = append(streams, prompted(t, guard))
	}
	before := pprof.Lookup("threadcreate").Count()
	var group sync.WaitGroup
	for index, stream := range streams {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := stream.PushText(t.Context(), strings.Repeat("x", index)+long[:1200]); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if created := pprof.Lookup("threadcreate").Count() - before; created > 20 {
		t.Fatalf("%d threads for %d calls", created, len(streams))
	}
}
