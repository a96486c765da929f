package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// proxy lets through what it can judge, and nothing else.
type proxy struct {
	guard    *qwenguard.Guard
	upstream *httputil.ReverseProxy
	report   func(format string, values ...any)
	requests atomic.Int64
}

// conversation is what is known of a request when its answer comes.
type conversation struct {
	name   string
	stream *qwenguard.Stream
}

type conversationKey struct{}

func newProxy(guard *qwenguard.Guard, upstream *url.URL, report func(format string, values ...any)) http.Handler {
	p := &proxy{guard: guard, report: report}
	p.upstream = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Header.Set("Accept-Encoding", "identity")
		},
		ModifyResponse: p.moderate,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.report("%s %s: %v", r.Method, r.URL.Path, err)
			http.Error(w, "the upstream does not answer as it should", http.StatusBadGateway)
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", p.complete)
	mux.Handle("GET /v1/models", p.upstream)
	return mux
}

// complete judges the prompt, and passes the request on if that is fine.
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
	check, err := stream.Prompt(r.Context(), request.messages...)
	if err != nil {
		http.Error(w, err.Error(), httpStatus(err))
		return
	}
	name := r.Header.Get("X-Request-Id")
	if name == "" {
		name = fmt.Sprint("request ", p.requests.Add(1))
	}
	if check.Decision == qwenguard.DecisionStop {
		rule, _ := stream.Rule()
		p.report("%s: prompt refused, %s", name, rule)
		w.Header().Set("Content-Type", "text/event-stream")
		writeEnd(w, chunk{Object: "chat.completion.chunk"}, "")
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), conversationKey{}, &conversation{name, stream}))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(request.body)), int64(len(request.body))
	p.upstream.ServeHTTP(w, r)
}

// moderate puts the guard between an answer and the client.
func (p *proxy) moderate(response *http.Response) error {
	asked, ok := response.Request.Context().Value(conversationKey{}).(*conversation)
	if !ok || response.StatusCode >= 400 {
		return nil
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	encoding := response.Header.Get("Content-Encoding")
	if response.StatusCode != http.StatusOK || kind != "text/event-stream" || encoding != "" {
		return fmt.Errorf("status %d with %q %q is no event stream", response.StatusCode, kind, encoding)
	}
	response.Header.Del("Content-Length")
	response.ContentLength = -1
	response.Body = newAnswer(response.Request.Context(), asked, response.Body, p.report)
	return nil
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
