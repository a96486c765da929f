package qwenguard

import (
	"os/exec"
	"runtime"
	"sync"
	"testing"
)

// Go starts programs by a fork that runs nothing of the library, and an exec: at any time, whatever streams do.
func TestProgramsAreStartedWhileStreamsAreUsed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no fork")
	}
	guard := openNano(t)
	over := make(chan struct{})
	var work sync.WaitGroup
	for range 3 {
		stream := prompted(t, guard)
		work.Add(1)
		go func() {
			defer work.Done()
			for {
				select {
				case <-over:
					return
				default:
				}
				if _, err := stream.PushText(t.Context(), " "+harmless); err != nil {
					t.Error(err)
					return
				}
				if _, err := stream.Truncate(t.Context(), 0); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range 30 {
		said, err := exec.Command("echo", "hello").Output()
		if err != nil || string(said) != "hello\n" {
			t.Errorf("%q %v", said, err)
		}
	}
	close(over)
	work.Wait()
	must(prompted(t, guard).PushText(t.Context(), harmless))(t)
}
