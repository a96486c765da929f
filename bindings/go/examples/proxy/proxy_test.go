package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// start gives a proxy before an upstream, what it reports, and its guard.
func start(t *testing.T, upstream http.HandlerFunc) (*httptest.Server, chan string, *qwenguard.Guard) {
	t.Helper()
	guard, err := qwenguard.OpenNano(&qwenguard.Options{Threads: 1, CacheMiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	model := httptest.NewServer(upstream)
	t.Cleanup(model.Close)
	target, err := url.Parse(model.URL)
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan string, 10)
	server := httptest.NewServer(newProxy(guard, target, func(format string, values ...any) {
		reports <- fmt.Sprintf(format, values...)
	}))
	t.Cleanup(server.Close)
	return server, reports, guard
}

func post(t *testing.T, server *httptest.Server, body string) (*http.Response, string, error) {
	t.Helper()
	response, err := http.Post(server.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

const hello = `{"model": "m", "stream": true, "temperature": 0.5, "messages": [{"role": "user", "content": "Hello"}]}`

func TestSample(t *testing.T) {
	var errors bytes.Buffer
	command := exec.Command("go", "run", ".", "-sample")
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errors.String())
	}
	for _, line := range []string{
		"bad-prompt: prompt refused, prompt.strict",
		"turns: cut at byte 160 of 168, answer.strict: 2 consecutive: Unsafe\n",
		"fine: complete, 233 bytes\n",
		"\nfine:\n" + samples[0].answer + "\n",
		"\nturns:\n" + samples[1].answer[:160] + "\n",
		"\nbad-prompt:\n\n",
	} {
		if !strings.Contains(string(output), line) {
			t.Errorf("no %q in\n%s", line, output)
		}
	}
}

func TestNothingIsReadOrShownAfterAStop(t *testing.T) {
	gone := make(chan struct{})
	server, reports, guard := start(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for r.Context().Err() == nil {
			writeAnswer(w, samples[1].answer)
		}
	})
	response, text, err := post(t, server, hello)
	if err != nil || response.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Fatal(err, response.Header)
	}
	var shown strings.Builder
	events := strings.SplitAfter(strings.TrimSuffix(text, "\n\n"), "\n\n")
	for _, event := range events[:len(events)-2] {
		content, ok := strings.CutPrefix(event, `data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"sample",`+
			`"choices":[{"index":0,"delta":{`)
		if !ok || !strings.HasSuffix(content, `},"finish_reason":null}]}`+"\n\n") {
			t.Fatalf("%q", event)
		}
		if parts := strings.Split(content, `"`); parts[1] == "content" {
			shown.WriteString(parts[3])
		}
	}
	if !strings.Contains(events[len(events)-2], `"finish_reason":"content_filter"`) || events[len(events)-1] != "data: [DONE]" {
		t.Fatalf("%q", events)
	}
	if rest := samples[1].answer[shown.Len():160]; shown.String()+rest != samples[1].answer[:160] ||
		!strings.Contains(events[len(events)-2], `"delta":{`+content(rest)+`}`) {
		t.Fatalf("%q and %q", shown.String(), events[len(events)-2])
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the upstream is still read")
	}
	if report := <-reports; report != "request 1: cut at byte 160 of 168, answer.strict: 2 consecutive: Unsafe" {
		t.Fatal(report)
	}
	closesStreams(t, guard)
}

func content(text string) string {
	if text == "" {
		return ""
	}
	return `"content":"` + text + `"`
}

func closesStreams(t *testing.T, guard *qwenguard.Guard) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if stats, err := guard.Stats(); err != nil || stats.OpenStreams == 0 {
			return
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("a stream is still open")
		}
	}
}

func TestARefusedPromptGoesNoFurther(t *testing.T) {
	server, reports, guard := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the upstream was asked") })
	_, text, err := post(t, server, strings.Replace(hello, "Hello", samples[2].prompt, 1))
	if err != nil || !strings.Contains(text, `"delta":{},"finish_reason":"content_filter"`) || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		t.Fatal(err, text)
	}
	if report := <-reports; !strings.HasPrefix(report, "request 1: prompt refused, prompt.strict") {
		t.Fatal(report)
	}
	closesStreams(t, guard)
}

func TestRequestsThatCannotBeJudged(t *testing.T) {
	server, _, _ := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the upstream was asked") })
	for says, body := range map[string]string{
		"unexpected end": `{`,
		"stream":         `{"stream": false, "messages": []}`,
		"single answers": strings.Replace(hello, `"stream"`, `"n": 2, "stream"`, 1),
		"messages":       `{"stream": true, "messages": 7}`,
		"[0].role":       `{"stream": true, "messages": [{"content": "a"}]}`,
		"[0].content":    `{"stream": true, "messages": [{"role": "user"}]}`,
		`"image_url"`:    `{"stream": true, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}`,
		"no user turn":   `{"stream": true, "messages": []}`,
		"context full":   strings.Replace(hello, "Hello", strings.Repeat("word ", 5000), 1),
		"body too large": strings.Repeat(" ", 5<<20),
	} {
		response, text, err := post(t, server, body)
		if err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(text, says) {
			t.Errorf("%q: %v, %s, %q", says, err, response.Status, text)
		}
	}
	response, err := http.Get(server.URL + "/v1/chat/completions/7")
	if err != nil || response.StatusCode != http.StatusNotFound {
		t.Fatal(err, response)
	}
}

func TestTheUpstreamReadsWhatWasJudged(t *testing.T) {
	asked := make(chan string, 1)
	server, _, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- string(body)
		w.Header().Set("Content-Type", "text/event-stream")
		writeAnswer(w, "Hello to you.")
	})
	body := `{"stream": false, "stream": true, "messages": [{"role": "user", "content": "x", "content": [` +
		`{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}], "seed": 1}`
	if _, text, err := post(t, server, body); err != nil || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		t.Fatal(err, text)
	}
	if text := <-asked; text != `{"messages":[{"content":"Hello","role":"user"}],"seed":1,"stream":true}` {
		t.Fatal(text)
	}
}

func TestAnswersThatCannotBeJudged(t *testing.T) {
	event := func(data string) string { return "data: " + data + "\n\n" }
	finish := event(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`)
	for name, answer := range map[string]struct {
		kind   string
		status int
		body   string
		// Whether it is refused, or broken off, and what may be seen.
		refused, broken bool
		seen            string
	}{
		"no events":         {kind: "application/json", status: 200, body: `{"secret": 1}`, refused: true},
		"elsewhere":         {kind: "text/event-stream", status: 302, body: `secret`, refused: true},
		"an error":          {kind: "application/json", status: 429, body: `slow down`, seen: "slow down"},
		"no JSON":           {kind: "text/event-stream", status: 200, body: event("secret"), broken: true},
		"another choice":    {kind: "text/event-stream", status: 200, body: event(`{"choices":[{"index":1,"delta":{"content":"secret"}}]}`), broken: true},
		"broken off":        {kind: "text/event-stream", status: 200, body: event(`{"choices":[{"delta":{"content":"secret"}}]}`), broken: true},
		"more than the end": {kind: "text/event-stream", status: 200, body: finish + event(`{"choices":[{"delta":{"content":"secret"}}]}`), broken: true},
		"other fields": {kind: "text/event-stream", status: 200, seen: "total_tokens",
			body: ": secret\n" + event(`{"secret":1,"choices":[{"delta":{"tool_calls":["secret"],"reasoning_content":"secret"}}]}`) +
				finish + event(`{"choices":[],"usage":{"total_tokens":7,"secret":1}}`) + event("[DONE]")},
	} {
		t.Run(name, func(t *testing.T) {
			server, _, guard := start(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", answer.kind)
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			})
			response, text, err := post(t, server, hello)
			if (response.StatusCode == http.StatusBadGateway) != answer.refused || (err != nil) != answer.broken {
				t.Fatal(response.Status, err)
			}
			if strings.Contains(text, "secret") || !strings.Contains(text, answer.seen) {
				t.Fatalf("%q", text)
			}
			closesStreams(t, guard)
		})
	}
}

func TestOtherPaths(t *testing.T) {
	server, _, _ := start(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	for path, status := range map[string]int{"/v1/models": 200, "/v1/completions": 404, "/": 404} {
		response, err := http.Get(server.URL + path)
		if err != nil || response.StatusCode != status {
			t.Fatal(path, err, response)
		}
	}
}
