package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync/atomic"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// proxy passes on what it has judged, and nothing else: requests and events are written anew from the fields that it knows.
type proxy struct {
	guard    *qwenguard.Guard
	upstream *url.URL
	client   *http.Client
	report   func(format string, values ...any)
	requests atomic.Int64
}

func newProxy(guard *qwenguard.Guard, upstream *url.URL, report func(format string, values ...any)) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// What is compressed cannot be read.
	transport.DisableCompression = true
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p := &proxy{guard: guard, upstream: upstream, report: report,
		client: &http.Client{Transport: transport, CheckRedirect: stay}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", p.complete)
	return mux
}

// complete judges a request, and has it answered if that is fine.
func (p *proxy) complete(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, err := parseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stream, err := p.guard.NewStream()
	if err != nil {
		http.Error(w, err.Error(), httpStatus(err))
		return
	}
	defer stream.Close()
	name := r.Header.Get("X-Request-Id")
	if name == "" {
		name = fmt.Sprint("request ", p.requests.Add(1))
	}
	// The upstream need not write on once this returns.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	answer := &answer{judge: judge{ctx: ctx, stream: stream}, to: flusher{w}}
	switch err := judgeRequest(ctx, p.guard, stream, request.turns); {
	case errors.Is(err, errRefused):
		p.report("%s: %v", name, err)
		startEvents(w)
		_ = answer.filtered()
	case err != nil:
		http.Error(w, err.Error(), httpStatus(err))
	default:
		p.answer(w, r, name, request.body, answer)
	}
}

// answer asks the upstream, and passes its answer on.
func (p *proxy) answer(w http.ResponseWriter, r *http.Request, name string, body []byte, answer *answer) {
	response, err := p.ask(answer.ctx, r, body)
	if err != nil {
		p.report("%s: %v", name, err)
		http.Error(w, "the upstream does not answer as it should", http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		// Its words are not judged.
		p.report("%s: the upstream refuses: %s", name, response.Status)
		http.Error(w, fmt.Sprint("the upstream refuses with status ", response.StatusCode), response.StatusCode)
		return
	}
	startEvents(w)
	err = answer.relay(response.Body)
	var stop *stopError
	switch {
	case err == nil:
		p.report("%s: complete, %d bytes", name, answer.shown)
		return
	case errors.As(err, &stop):
		p.report("%s: cut at byte %d of %d, %s: %v", name, answer.shown, stop.update.Received, stop.rule, stop.update.Violation.Risk)
		if answer.filtered() == nil {
			return
		}
	default:
		p.report("%s: broken off after %d bytes: %v", name, answer.shown, err)
		_ = writeEvent(answer.to, map[string]any{
			"error": map[string]any{"message": "the answer broke off", "type": "upstream_error"},
		})
	}
	// This is no end, whatever the client makes of the event.
	panic(http.ErrAbortHandler)
}

// ask sends a request that has nothing of the client's but its authorization.
func (p *proxy) ask(ctx context.Context, r *http.Request, body []byte) (*http.Response, error) {
	to := p.upstream.JoinPath("/v1/chat/completions").String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "text/event-stream")
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := p.client.Do(request)
	if err != nil || response.StatusCode >= 400 {
		return response, err
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	encoding := response.Header.Get("Content-Encoding")
	if response.StatusCode != http.StatusOK || kind != "text/event-stream" || encoding != "" {
		response.Body.Close()
		return nil, fmt.Errorf("status %d with %q %q is no event stream", response.StatusCode, kind, encoding)
	}
	return response, nil
}

func startEvents(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
}

// flusher sends each event as it comes.
type flusher struct{ http.ResponseWriter }

func (f flusher) Write(data []byte) (int, error) {
	count, err := f.ResponseWriter.Write(data)
	if err == nil {
		err = http.NewResponseController(f.ResponseWriter).Flush()
	}
	return count, err
}

func httpStatus(err error) int {
	switch {
	case errors.Is(err, qwenguard.ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, qwenguard.ErrArgument), errors.Is(err, qwenguard.ErrConversation),
		errors.Is(err, qwenguard.ErrContextFull):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
