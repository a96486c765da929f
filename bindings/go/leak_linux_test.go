//go:build !race

package qwenguard

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// Memory of the library that calls leave behind would add up here. The race detector has memory of its own.
func TestCallsLeaveNothingBehind(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	must(stream.PushText(t.Context(), violent))(t)
	queue := must(OpenQueue())(t)
	defer queue.Close()
	round := func() {
		_, err := stream.FlagRule(1 << 20)
		fails(t, err, ErrArgument, "flag")
		_, err = stream.PushText(context.Background(), "\xff")
		fails(t, err, ErrArgument, "UTF-8")
		replies := must(CallAll(context.Background(), stream.CallPushText("\xff")))(t)
		fails(t, replies[0].Err, ErrArgument, "UTF-8")
		_, err = OpenNano(&Options{Config: "nothing = 1"})
		fails(t, err, ErrConfig, "nothing")
		must(stream.Rule())(t)
		must(guard.Info())(t)
		must(stream.Fork())(t).Close()
		must(OpenQueue())(t).Close()
		_, err = guard.Annotate(context.Background(), []Message{User("\xff")}, nil)
		fails(t, err, ErrArgument, "UTF-8")
		if err := queue.Submit(stream.CallPushText("\xff"), 0, NoTimeout); err != nil {
			t.Fatal(err)
		}
		fails(t, must(queue.Wait(t.Context(), 1))(t)[0].Err, ErrArgument, "UTF-8")
	}
	const rounds = 10000
	for range rounds {
		round()
	}
	before := residentBytes(t)
	for range 2 * rounds {
		round()
	}
	if after := residentBytes(t); after > before+rounds*128 {
		t.Fatalf("%d bytes grew to %d", before, after)
	}
}

// residentBytes is the process's memory without Go's.
func residentBytes(t *testing.T) int {
	t.Helper()
	var pages, resident int
	text := must(os.ReadFile("/proc/self/statm"))(t)
	if _, err := fmt.Sscan(string(text), &pages, &resident); err != nil {
		t.Fatal(err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return resident*os.Getpagesize() - int(memory.HeapSys-memory.HeapReleased)
}
