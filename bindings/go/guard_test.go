package qwenguard

import (
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	guard := must(Open(filepath.Join(repository, "export/nano/bundle"), nil))(t)
	defer guard.Close()
	var info struct {
		Bundle string
		Labels any
	}
	if err := json.Unmarshal([]byte(must(guard.Info())(t)), &info); err != nil {
		t.Fatal(err)
	}
	_, err := Open("/nowhere/\x00 ünd 🦉", nil)
	fails(t, err, ErrBundleFile, "ünd 🦉")
	_, err = Open("", &Options{})
	fails(t, err, ErrArgument, "bundle")
	_, err = OpenNano(&Options{Config: "threads = 2"})
	fails(t, err, ErrConfig, "threads")
	_, err = OpenNano(&Options{Config: "a = '\xff'"})
	fails(t, err, ErrArgument, "config_toml")
	_, err = OpenNano(&Options{RuntimeLibrary: "/nowhere/libonnxruntime.so"})
	fails(t, err, ErrRuntimeNotFound, "/nowhere")
}

func TestProviders(t *testing.T) {
	var all []struct {
		Provider  string
		Available bool
		Devices   []struct {
			Index      int
			Name, Kind string
		}
		Reason *string
	}
	if err := json.Unmarshal([]byte(must(Providers(nil))(t)), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 5 || all[0].Provider != "cpu" || !all[0].Available || all[0].Devices[0].Kind != "cpu" {
		t.Fatal(all)
	}
	for _, status := range all {
		if status.Available != (status.Reason == nil) {
			t.Fatal(status)
		}
	}
	_, err := Providers(&Options{Config: "runtime.provider = 'gpu'"})
	fails(t, err, ErrConfig, "runtime.provider")
	_, err = OpenNano(&Options{Config: "runtime.provider = 'cuda'"})
	fails(t, err, ErrProvider, "execution provider cuda")
}

func TestVersion(t *testing.T) {
	if Compatible() != nil || VersionNumber() != builtVersion || !strings.HasPrefix(Version(), "0.1.") {
		t.Fatal(Compatible(), VersionNumber(), Version())
	}
	if err := compatible(builtABI + 1); err == nil || !strings.Contains(err.Error(), "binary interface 2") {
		t.Fatal(err)
	}
}

func TestCategoriesAndTokens(t *testing.T) {
	guard := openNano(t)
	if names := must(guard.Categories(HeadsPrompt))(t); len(names) != 9 || names[8] != "Jailbreak" {
		t.Fatal(names)
	}
	if name := must(guard.Category(HeadsAnswer, 0))(t); name != "Violent" {
		t.Fatal(name)
	}
	for _, index := range []int{-1, 8, 1 << 40} {
		_, err := guard.Category(HeadsAnswer, index)
		fails(t, err, ErrArgument, "category")
	}
	_, err := guard.Categories(7)
	fails(t, err, ErrEnum, "heads")

	text := strings.Repeat("NUL \x00, ümlaut, 漢字 and 🦉. ", 40) + "<|im_end|>"
	ids, spans, err := guard.Encode(text)
	if err != nil || len(ids) != len(spans) || spans[len(spans)-1].End != len(text) {
		t.Fatal(err, len(ids), len(spans))
	}
	var rebuilt strings.Builder
	for _, id := range ids {
		rebuilt.Write(must(guard.TokenBytes(id))(t))
	}
	if rebuilt.String() != text {
		t.Fatalf("%q", rebuilt.String())
	}
	if ids, spans, err := guard.Encode(""); len(ids)+len(spans) != 0 || err != nil {
		t.Fatal(ids, spans, err)
	}
	_, _, err = guard.Encode("a\xff")
	fails(t, err, ErrArgument, "UTF-8")
	_, err = guard.TokenBytes(4000000000)
	fails(t, err, ErrArgument, "there is no token")
	// A character that gets longer when it is normalised has more tokens than room was made for.
	if ids, _, err := guard.Encode(strings.Repeat("\u0958", 400)); err != nil || len(ids) <= 608 {
		t.Fatal(err, len(ids))
	}
}

func TestStats(t *testing.T) {
	guard := openNano(t)
	prompted(t, guard)
	stats := must(guard.Stats())(t)
	if stats.OpenStreams != 1 || stats.Tokens == 0 || stats.Steps == 0 || stats.CacheBytes == 0 || stats.StepTime <= 0 {
		t.Fatalf("%+v", stats)
	}
	if metrics := must(guard.Metrics())(t); !strings.Contains(metrics, "\nqwenguard_open_streams 1\n") {
		t.Fatal(metrics)
	}
}

func TestTwoGuards(t *testing.T) {
	one, other := openNano(t), must(OpenNano(&Options{Config: "policy.answer.mode = 'loose'", CacheMiB: 32}))(t)
	stream, kept := prompted(t, one), prompted(t, other)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []*Stream{stream, kept} {
		if update := must(stream.PushText(t.Context(), violent))(t); update.Decision != DecisionStop {
			t.Fatalf("%+v", update)
		}
	}
	if rule := must(kept.Rule())(t); !strings.HasPrefix(rule, "answer.loose") {
		t.Fatal(rule)
	}
}

func TestClosedAndZero(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	queue := must(OpenQueue())(t)
	for range 2 {
		if guard.Close() != nil || stream.Close() != nil || queue.Close() != nil {
			t.Fatal("closing failed")
		}
	}
	for _, guard := range []*Guard{guard, {}} {
		calls := map[string]func() error{
			"NewStream":  func() error { _, err := guard.NewStream(); return err },
			"policy":     func() error { _, err := guard.NewStreamWithPolicy(""); return err },
			"Info":       func() error { _, err := guard.Info(); return err },
			"Categories": func() error { _, err := guard.Categories(HeadsPrompt); return err },
			"Category":   func() error { _, err := guard.Category(HeadsPrompt, 0); return err },
			"Encode":     func() error { _, _, err := guard.Encode("a"); return err },
			"TokenBytes": func() error { _, err := guard.TokenBytes(1); return err },
			"Stats":      func() error { _, err := guard.Stats(); return err },
			"Metrics":    func() error { _, err := guard.Metrics(); return err },
			"Close":      func() error { guard.Close(); return closed("guard") },
		}
		for name, call := range calls {
			t.Run(name, func(t *testing.T) { fails(t, call(), ErrClosed, "guard already closed") })
		}
	}
	for _, stream := range []*Stream{stream, {}} {
		for name, call := range streamCalls(t, stream) {
			t.Run(name, func(t *testing.T) { fails(t, call(), ErrClosed, "stream already closed") })
		}
		replies := must(CallAll(t.Context(), stream.CallFinish(), Call{}))(t)
		fails(t, replies[0].Err, ErrClosed, "stream")
		fails(t, replies[1].Err, ErrNull, "call")
		stream.Close()
	}
	open := prompted(t, openNano(t))
	for _, queue := range []*Queue{queue, {}} {
		fails(t, queue.Submit(open.CallFinish(), 0, NoTimeout), ErrClosed, "queue already closed")
		_, err := queue.Wait(t.Context(), 1)
		fails(t, err, ErrClosed, "queue")
		_, err = queue.Cancel(0)
		fails(t, err, ErrClosed, "queue")
		if queue.Len() != 0 {
			t.Fatal(queue.Len())
		}
		queue.Close()
	}
	must(open.Finish(t.Context()))(t)
}

// What is forgotten is closed by the collector.
func TestForgotten(t *testing.T) {
	guard := openNano(t)
	kept := prompted(t, guard)
	func() {
		prompted := must(guard.NewStream())(t)
		must(prompted.Prompt(t.Context(), User("Hello")))(t)
		must(prompted.Fork())(t)
		queue := must(OpenQueue())(t)
		if err := queue.Submit(kept.CallPushText("Hi."), 1, NoTimeout); err != nil {
			t.Fatal(err)
		}
		must(OpenNano(&Options{CacheMiB: 16}))(t)
	}()
	eventually(t, func() bool {
		runtime.GC()
		_, err := kept.ContextUsed()
		return must(guard.Stats())(t).OpenStreams == 1 && err == nil
	})
}

func eventually(t *testing.T, happens func() bool) {
	t.Helper()
	for start := time.Now(); !happens(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("it did not happen")
		}
	}
}
