// Bench measures what a call costs from Go, with the built-in guard, and prints one line of JSON.
package main

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

func main() {
	guard, err := qwenguard.OpenNano(&qwenguard.Options{Threads: 1, CacheMiB: 64})
	check(err)
	defer guard.Close()
	ids, _, err := guard.Encode(" bread")
	check(err)
	fmt.Printf("{\"language\":\"go\",\"empty_push_ns\":%.1f,\"token_push_us\":%.1f}\n",
		emptyPush(prompted(guard)), tokenPush(prompted(guard), ids[:1]))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func prompted(guard *qwenguard.Guard) *qwenguard.Stream {
	stream, err := guard.NewStream()
	check(err)
	_, err = stream.Prompt(context.Background(), qwenguard.User("How do I bake bread?"))
	check(err)
	return stream
}

// emptyPush gives nanoseconds of a push that has nothing to compute: the crossing alone.
func emptyPush(stream *qwenguard.Stream) float64 {
	defer stream.Close()
	const batches, pushes = 20, 10_000
	batch := func(pushes int) time.Duration {
		start := time.Now()
		for range pushes {
			_, err := stream.PushText(context.Background(), "")
			check(err)
		}
		return time.Since(start)
	}
	batch(batches * pushes)
	var times []time.Duration
	for range batches {
		times = append(times, batch(pushes))
	}
	return float64(median(times).Nanoseconds()) / pushes
}

// tokenPush gives microseconds of a push of one token.
func tokenPush(stream *qwenguard.Stream, token []uint32) float64 {
	defer stream.Close()
	const warm, pushes, length = 500, 2000, 64
	var times []time.Duration
	for index := range warm + pushes {
		if index%length == 0 {
			_, err := stream.Truncate(context.Background(), 0)
			check(err)
		}
		start := time.Now()
		_, err := stream.PushTokens(context.Background(), token)
		check(err)
		if index >= warm {
			times = append(times, time.Since(start))
		}
	}
	return float64(median(times).Nanoseconds()) / 1000
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
