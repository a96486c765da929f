package qwenguard

import (
	"errors"
	"strings"
	"testing"
)

const repository = "../.."

// violent is what the nano guard stops at once.
const violent = "Take the explosives, build a bomb and put it under the car of your neighbour."

const harmless = "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it rest."

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func openNano(t *testing.T) *Guard {
	t.Helper()
	guard := must(OpenNano(&Options{Threads: 1, CacheMiB: 64}))(t)
	t.Cleanup(func() { _ = guard.Close() })
	return guard
}

// prompted is a stream that waits for its answer.
func prompted(t *testing.T, guard *Guard) *Stream {
	t.Helper()
	stream := must(guard.NewStream())(t)
	t.Cleanup(func() { _ = stream.Close() })
	must(stream.Prompt(t.Context(), User("Hello")))(t)
	return stream
}

// fails checks an error and that it says something.
func fails(t *testing.T, err, wanted error, says string) {
	t.Helper()
	if !errors.Is(err, wanted) || !strings.Contains(err.Error(), says) {
		t.Fatalf("the error is %v, not %v with %q", err, wanted, says)
	}
}
