package main

import (
	"bufio"
	"bytes"
	"encoding/json"
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
	return startWith(t, "", upstream)
}

func startWith(t *testing.T, config string, upstream http.HandlerFunc) (*httptest.Server, chan string, *qwenguard.Guard) {
	t.Helper()
	guard, err := qwenguard.OpenNano(&qwenguard.Options{Threads: 1, CacheMiB: 64, Config: config})
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
		"turns: cut at byte 153 of 168, answer.strict: 2 consecutive: Unsafe\n",
		"fine: complete, 233 bytes\n",
		"\nfine:\n" + samples[0].answer + "\n",
		"\nturns:\n" + samples[1].answer[:153] + "\n",
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
	if err != nil || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(err, response.Header)
	}
	seen := read(t, text)
	if seen.content != samples[1].answer[:153] || seen.reason != "content_filter" || !seen.done {
		t.Fatalf("%+v", seen)
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the upstream is still read")
	}
	if report := <-reports; report != "request 1: cut at byte 153 of 168, answer.strict: 2 consecutive: Unsafe" {
		t.Fatal(report)
	}
	closesStreams(t, guard)
}

// seen is what a client gets out of an event stream.
type seen struct {
	content, reasoning, reason, names, arguments, failure string
	done                                                  bool
	events                                                int
}

func read(t *testing.T, text string) (all seen) {
	t.Helper()
	events := events{from: bufio.NewReader(strings.NewReader(text))}
	for event, err := events.next(); err == nil; event, err = events.next() {
		all.events++
		if all.done {
			t.Fatalf("%q after the end", event.data)
		}
		if event.data == "[DONE]" {
			all.done = true
			continue
		}
		var chunk struct {
			chunk
			Error *struct{ Message, Type string }
		}
		decoder := json.NewDecoder(strings.NewReader(event.data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&chunk); err != nil {
			t.Fatalf("%q: %v", event.data, err)
		}
		if chunk.Error != nil {
			all.failure = chunk.Error.Message
		}
		for _, choice := range chunk.Choices {
			all.content += choice.Delta.Content
			all.reasoning += choice.Delta.Reasoning + choice.Delta.ReasoningContent
			for _, call := range choice.Delta.ToolCalls {
				all.names += call.Function.Name
				all.arguments += call.Function.Arguments
			}
			if choice.FinishReason != nil {
				all.reason += *choice.FinishReason
			}
		}
	}
	return all
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
	const fine = `{"role": "user", "content": "How do I bake bread?"}, `
	bad, badAnswer := samples[2].prompt, samples[1].answer
	server, reports, guard := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the upstream was asked") })
	for messages, place := range map[string]string{
		fmt.Sprintf(`{"role": "user", "content": %q}`, bad):                                                             "",
		fmt.Sprintf(`{"role": "user", "content": [{"type": "text", "text": %q}]}`, bad):                                 "",
		fmt.Sprintf(`{"role": "system", "content": %q}, %s`, bad, fine):                                                 "0",
		fmt.Sprintf(`{"role": "developer", "content": %q}, %s`, bad, fine):                                              "0",
		fmt.Sprintf(`{"role": "assistant", "content": %q}, %s`, bad, fine):                                              "0",
		fmt.Sprintf(`{"role": "user", "content": %q}, {"role": "assistant", "content": "No."}, %s`, bad, fine):          "0",
		fmt.Sprintf(`%s {"role": "assistant", "content": %q}, %s`, fine, badAnswer, fine):                               "1",
		fmt.Sprintf(`%s {"role": "assistant", "content": "Well.", "reasoning_content": %q}, %s`, fine, badAnswer, fine): "1",
		fmt.Sprintf(`%s {"role": "assistant", "content": "Well.", "reasoning": %q}, %s`, fine, badAnswer, fine):         "1",
		fmt.Sprintf(`%s {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", `+
			`"function": {"name": "say", "arguments": %q}}]}, %s`, fine, badAnswer, fine): "1",
		fmt.Sprintf(`%s {"role": "assistant", "tool_calls": [{"function": {"name": %q, "arguments": "{}"}}]}, %s`, fine, badAnswer, fine): "1",
		fmt.Sprintf(`%s {"role": "assistant", "content": "Yes."}, {"role": "tool", "tool_call_id": "1", "content": %q}`, fine, bad):       "",
		fmt.Sprintf(`%s {"role": "tool", "content": %q}, {"role": "assistant", "content": "Yes."}, %s`, fine, bad, fine):                  "1",
	} {
		messages = strings.TrimSuffix(strings.TrimSpace(messages), ",")
		_, text, err := post(t, server, `{"stream": true, "messages": [`+messages+`]}`)
		if all := read(t, text); err != nil || all != (seen{reason: "content_filter", done: true, events: 2}) {
			t.Fatal(messages, err, text)
		}
		if report := <-reports; !strings.Contains(report, ": prompt refused, ") || place != "" && !strings.HasSuffix(report, " (messages["+place+"])") {
			t.Fatal(messages, report)
		}
	}
	closesStreams(t, guard)
}

// with gives a request with other fields, or another message.
func with(fields string) string { return strings.Replace(hello, `"stream"`, fields+`, "stream"`, 1) }

func withMessage(message string) string {
	return strings.Replace(hello, `{"role"`, message+`, {"role"`, 1)
}

func TestRequestsThatCannotBeJudged(t *testing.T) {
	server, _, _ := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the upstream was asked") })
	for body, says := range map[string]string{
		`{`:                                 "JSON: ",
		`[]`:                                "JSON: not an object",
		hello + `{}`:                        "there is more after it",
		"\ufeff" + hello:                    "JSON: ",
		`{"stream": false, "messages": []}`: "stream: only streamed",
		`{"messages": []}`:                  "stream: only streamed",
		`{"stream": true}`:                  "messages: the last",
		`{"stream": true, "messages": {}}`:  "messages: ",
		`{"stream": true, "messages": [7]}`: "messages[0]: not an object",
		with(`"n": 2`):                      "n: only single answers",
		with(`"n": "1"`):                    "n: ",
		with(`"tools": []`):                 "\"tools\": this field is not moderated here",
		with(`"tools": [{"type": "function", "function": {"name": "x"}}]`): `"tools"`,
		with(`"functions": []`):                                                               `"functions"`,
		with(`"tool_choice": "auto"`):                                                         `"tool_choice"`,
		with(`"response_format": {"type": "text"}`):                                           `"response_format"`,
		with(`"stop": ["x"]`):                                                                 `"stop"`,
		with(`"user": "x"`):                                                                   `"user"`,
		with(`"logprobs": true`):                                                              `"logprobs"`,
		with(`"prompt": "x"`):                                                                 `"prompt"`,
		with(`"temperature": "x"`):                                                            "temperature: ",
		with(`"model": "you are free now"`):                                                   "model: ",
		with(`"stream_options": {"note": "x"}`):                                               "stream_options.\"note\"",
		with(`"Messages": []`):                                                                `"Messages"`,
		with(`"MESSAGES": [{"role": "user"}]`):                                                `"MESSAGES"`,
		with("\"me\u017f\u017fages\": []"):                                                    "\"me\u017f\u017fages\"",
		with(`"me\u017fsages": []`):                                                           "\"me\u017fsages\"",
		with(`"messages": []`):                                                                "messages: there twice",
		with(`"mess\u0061ges": []`):                                                           "messages: there twice",
		with(`"seed": 1, "seed": 2`):                                                          "seed: there twice",
		withMessage(`{"role": "model", "content": "x"}`):                                      `messages[0].role: "model"`,
		withMessage(`{"role": "User", "content": "x"}`):                                       `messages[0].role: "User"`,
		withMessage(`{"role": "user ", "content": "x"}`):                                      `messages[0].role: "user "`,
		withMessage(`{"role": "", "content": "x"}`):                                           `messages[0].role: ""`,
		withMessage(`{"content": "x"}`):                                                       `messages[0].role: ""`,
		withMessage(`{"role": 7, "content": "x"}`):                                            `messages[0].role: 7`,
		withMessage(`{"role": "user", "Role": "system", "content": "x"}`):                     `messages[0]."Role"`,
		withMessage(`{"role": "user", "content": "x", "content": "y"}`):                       "messages[0].content: there twice",
		withMessage(`{"role": "user", "Content": "x"}`):                                       `messages[0]."Content"`,
		withMessage(`{"role": "user", "content": "x", "name": "y"}`):                          `messages[0]."name"`,
		withMessage(`{"role": "user", "content": "x", "reasoning_content": "y"}`):             `messages[0]."reasoning_content"`,
		withMessage(`{"role": "user", "content": {"text": "x"}}`):                             "messages[0].content: ",
		withMessage(`{"role": "user", "content": [{"type": "image_url"}]}`):                   `messages[0].content[0].type: a part of type "image_url"`,
		withMessage(`{"role": "user", "content": [{"type": "text", "Text": "x"}]}`):           `messages[0].content[0]."Text"`,
		withMessage(`{"role": "user", "content": [{"type": "text", "text": "x", "y": "z"}]}`): `messages[0].content[0]."y"`,
		withMessage(`{"role": "user", "content": [["x"]]}`):                                   "messages[0].content[0]: not an object",
		withMessage(`{"role": "assistant", "content": "x", "refusal": "y"}`):                  `messages[0]."refusal"`,
		withMessage(`{"role": "assistant", "function_call": {"name": "y"}}`):                  `messages[0]."function_call"`,
		withMessage(`{"role": "assistant", "tool_calls": [{"type": "custom"}]}`):              "messages[0].tool_calls[0].type",
		withMessage(`{"role": "assistant", "tool_calls": [{"x": "y"}]}`):                      `messages[0].tool_calls[0]."x"`,
		withMessage(`{"role": "assistant", "tool_calls": [{"id": "do as I say"}]}`):           `messages[0].tool_calls[0].id`,
		withMessage(`{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": {"y": 1}}}]}`): "messages[0].tool_calls[0].function.arguments",
		withMessage(`{"role": "assistant", "tool_calls": [{"function": {"name": "x", "Arguments": "y"}}]}`):      `messages[0].tool_calls[0].function."Arguments"`,
		withMessage(`{"role": "tool", "content": "x", "tool_call_id": "do as I say"}`):                           "messages[0].tool_call_id",
		strings.Replace(hello, `"user"`, `"assistant"`, 1):                                                       "messages: the last",
		strings.Replace(hello, "Hello", strings.Repeat("word ", 5000), 1):                                        "context full",
		strings.Repeat(" ", 5<<20): "body too large",
	} {
		response, text, err := post(t, server, body)
		if err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(text, says) {
			t.Errorf("%q: %v, %s, %q", says, err, response.Status, text)
		}
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/chat/completions/7", "/v1/models", "/v1/completions", "/"} {
		if response, err := http.Get(server.URL + path); err != nil || response.StatusCode < 404 {
			t.Fatal(path, err, response)
		}
	}
}

func TestTheUpstreamReadsWhatWasJudged(t *testing.T) {
	type asked struct {
		body, query string
		header      http.Header
	}
	requests := make(chan asked, 1)
	server, _, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- asked{string(body), r.URL.RawQuery, r.Header}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Note", "secret")
		writeAnswer(w, "Hello to you.")
	})
	for body, want := range map[string]string{
		`{"stream": true, "messages": [{"content": [{"type": "text", "text": "Hel"}, {"text": "lo", "type": "text"}], "role": ` +
			`"user"}], "seed": 1, "tools": null, "n": 1, "stream_options": {"include_usage": true}}`: `{"messages":[{"role":"user","content":"Hello"}],` +
			`"seed":1,"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream": true, "model": "a/b-1", "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}, ` +
			`{"role": "assistant", "content": null, "refusal": null, "reasoning": "So.", "tool_calls": [{"id": "c_1", "type": "function", ` +
			`"function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c_1", "content": "Fine."}]}`: `{"messages":[` +
			`{"role":"developer","content":"Be kind."},{"role":"user","content":"Hi"},{"role":"assistant","content":"","reasoning":"So.",` +
			`"tool_calls":[{"id":"c_1","type":"function","function":{"name":"f","arguments":"{}"}}]},` +
			`{"role":"tool","content":"Fine.","tool_call_id":"c_1"}],"model":"a/b-1","stream":true}`,
	} {
		request, _ := http.NewRequest(http.MethodPost, server.URL+"/v1/chat/completions?note=secret", strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer key")
		request.Header.Set("X-Note", "secret")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if all := read(t, string(text)); err != nil || all.content != "Hello to you." || all.reason != "stop" || !all.done {
			t.Fatal(err, all)
		}
		if len(response.Header["X-Note"]) > 0 {
			t.Fatal(response.Header)
		}
		got := <-requests
		if got.body != want {
			t.Fatalf("%s\n%s", got.body, want)
		}
		if got.query != "" || len(got.header["X-Note"]) > 0 || got.header.Get("Authorization") != "Bearer key" {
			t.Fatal(got)
		}
	}
}

// say is an event that adds to the answer.
func say(delta string) string {
	return `data: {"choices":[{"index":0,"delta":{` + delta + `}}]}` + "\n\n"
}

const finish = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
const done = "data: [DONE]\n\n"

func TestAnswersThatCannotBeJudged(t *testing.T) {
	event := func(data string) string { return "data: " + data + "\n\n" }
	bad := samples[1].answer
	for name, answer := range map[string]struct {
		kind   string
		status int
		body   string
		// What the client gets: a status, or events that end well or break off.
		refused int
		broken  bool
		want    seen
	}{
		"no events":            {kind: "application/json", status: 200, body: `{"secret": 1}`, refused: 502},
		"elsewhere":            {kind: "text/event-stream", status: 302, body: `secret`, refused: 502},
		"an error":             {kind: "application/json", status: 429, body: `secret`, refused: 429},
		"no JSON":              {body: event("secret"), broken: true},
		"two choices":          {body: event(`{"choices":[{"index":0},{"index":1,"delta":{"content":"secret"}}]}`), broken: true},
		"other choice":         {body: event(`{"choices":[{"index":1,"delta":{"content":"secret"}}]}`), broken: true},
		"null choices":         {body: event(`{"choices":null,"id":"1"}`) + finish + done, broken: true},
		"no choices":           {body: event(`{"id":"1"}`) + finish + done, broken: true},
		"other case":           {body: event(`{"Choices":[{"index":0,"delta":{"content":"secret"}}]}`), broken: true},
		"folded":               {body: say(`"content":"Hello. ","content":"secret"`), broken: true},
		"other delta":          {body: say(`"Content":"secret"`), broken: true},
		"a refusal":            {body: say(`"refusal":"secret"`), broken: true},
		"audio":                {body: say(`"audio":{"transcript":"secret"}`), broken: true},
		"another role":         {body: say(`"role":"secret"`), broken: true},
		"an odd id":            {body: event(`{"id":"a secret","choices":[]}`), broken: true},
		"an odd end":           {body: event(`{"choices":[{"delta":{},"finish_reason":"a secret"}]}`), broken: true},
		"an error event":       {body: say(`"content":"Hello to you. Well, "`) + event(`{"error":{"message":"secret"}}`) + done, broken: true, want: seen{content: "Hello to you. Well"}},
		"an event named error": {body: "event: error\n" + event(`{"message":"secret"}`) + done, broken: true},
		"broken off":           {body: say(`"content":"Hello to you. Well, "`), broken: true, want: seen{content: "Hello to you. Well"}},
		"broken off at an end": {body: say(`"content":"Hello to you. "`) + finish, broken: true, want: seen{content: "Hello to you. ", reason: "stop"}},
		"empty":                {body: "", broken: true},
		"half an event":        {body: `data: {"choices":[{"index":0,"delta":{"content":"secret`, broken: true},
		"more than the end":    {body: finish + say(`"content":"secret"`), broken: true, want: seen{reason: "stop"}},
		"two ends":             {body: finish + finish, broken: true, want: seen{reason: "stop"}},
		"after the end":        {body: say(`"content":"Hello."`) + finish + done + say(`"content":"secret"`), want: seen{content: "Hello.", reason: "stop", done: true}},
		"no finish reason":     {body: say(`"content":"Hello to you"`) + done, want: seen{content: "Hello to you", done: true}},
		"bad, no finish reason": {body: say(fmt.Sprintf(`"content":%q`, bad[:150])) + say(fmt.Sprintf(`"content":%q`, bad[150:])) + done,
			want: seen{content: bad[:153], reason: "content_filter", done: true}},
		"a byte order mark": {body: "\ufeff" + say(`"content":"Hello to you"`) + finish + done, want: seen{content: "Hello to you", reason: "stop", done: true}},
		"carriage returns": {body: strings.ReplaceAll(say(`"content":"Hello to you"`)+finish+done, "\n", "\r"),
			want: seen{content: "Hello to you", reason: "stop", done: true}},
		"no last line end": {body: say(`"content":"Hello."`) + finish + "data: [DONE]", want: seen{content: "Hello.", reason: "stop", done: true}},
		"other fields": {body: ": secret\n" + event(`{"secret":1,"choices":[{"logprobs":"secret","delta":{"content":"Hello","tool_calls":null}}],"system_fingerprint":"secret"}`) +
			finish + event(`{"choices":[],"usage":{"total_tokens":7,"secret":1}}`) + done, want: seen{content: "Hello", reason: "stop", done: true}},
		"thinking": {body: say(`"role":"assistant","reasoning_content":"They greet me. "`) + say(`"reasoning_content":"So do I."`) + say(`"content":"Hello."`) + finish + done,
			want: seen{reasoning: "They greet me. So do I.", content: "Hello.", reason: "stop", done: true}},
		"bad thinking": {body: say(fmt.Sprintf(`"reasoning":%q`, bad)) + say(`"content":"Hello."`) + finish + done,
			want: seen{reasoning: bad[:153], reason: "content_filter", done: true}},
		"late thinking": {body: say(`"content":"Hello."`) + say(fmt.Sprintf(`"reasoning":%q`, " "+bad)) + finish + done,
			want: seen{reasoning: " " + bad[:153], content: "Hello.", reason: "content_filter", done: true}},
		"a call": {body: say(`"tool_calls":[{"index":0,"id":"c_1","type":"function","function":{"name":"bake","arguments":""}}]`) +
			say(`"tool_calls":[{"index":0,"function":{"arguments":"{\"what\": "}}]`) + say(`"tool_calls":[{"index":0,"function":{"arguments":"\"bread\"}"}}]`) +
			say(`"tool_calls":[{"index":1,"id":"c_2","function":{"name":"eat","arguments":"{}"}}]`) + finish + done,
			want: seen{names: "bakeeat", arguments: `{"what": "bread"}{}`, reason: "stop", done: true}},
		"a call without a name":  {body: say(`"tool_calls":[{"index":0,"function":{"arguments":"secret"}}]`), broken: true},
		"a call without a place": {body: say(`"tool_calls":[{"function":{"name":"secret"}}]`), broken: true},
		"other things in a call": {body: say(`"tool_calls":[{"index":0,"function":{"name":"f","note":"secret"}}]`), broken: true},
		"an odd id of a call":    {body: say(`"tool_calls":[{"index":0,"id":"a secret","function":{"name":"f"}}]`), broken: true},
		"calls in a mess": {body: say(`"tool_calls":[{"index":0,"function":{"name":"f"}},{"index":1,"function":{"name":"g"}},{"index":0,"function":{"arguments":"secret"}}]`),
			broken: true, want: seen{}},
	} {
		t.Run(name, func(t *testing.T) {
			config := ""
			if strings.Contains(name, "call") {
				// The demonstration guard does not know what calls are. It is asked all the same.
				config = "policy.shadow = true"
			}
			server, _, guard := startWith(t, config, func(w http.ResponseWriter, r *http.Request) {
				kind, status := answer.kind, answer.status
				if kind == "" {
					kind, status = "text/event-stream", 200
				}
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, answer.body)
			})
			response, text, err := post(t, server, hello)
			if strings.Contains(text, "secret") || (err != nil) != answer.broken {
				t.Fatalf("%v, %q", err, text)
			}
			if answer.refused != 0 || response.StatusCode != 200 {
				if response.StatusCode != answer.refused {
					t.Fatal(response.Status, text)
				}
				return
			}
			all := read(t, text)
			if (all.failure != "") != answer.broken {
				t.Fatalf("%q", text)
			}
			all.events, all.failure = 0, ""
			if all != answer.want {
				t.Fatalf("%+v, wanted %+v", all, answer.want)
			}
			closesStreams(t, guard)
		})
	}
}

// What is in arguments and names is judged, and a call that turns is cut.
func TestBadCalls(t *testing.T) {
	bad := samples[1].answer
	for name, call := range map[string]string{
		"arguments": fmt.Sprintf(`{"index":0,"function":{"name":"say","arguments":%q}}`, bad),
		"name":      fmt.Sprintf(`{"index":0,"function":{"name":%q,"arguments":"{}"}}`, bad),
	} {
		server, _, _ := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, say(`"tool_calls":[`+call+`]`)+finish+done)
		})
		_, text, err := post(t, server, hello)
		all := read(t, text)
		if err != nil || all.reason != "content_filter" || strings.Contains(text, "killed") || name == "name" && all.names != "" {
			t.Fatalf("%s: %v, %q", name, err, text)
		}
	}
}
