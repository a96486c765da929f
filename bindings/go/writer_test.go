package qwenguard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestWriterPassesAHarmlessAnswer(t *testing.T) {
	guard := openNano(t)
	for _, text := range []string{"", harmless, "NUL \x00, 漢字 and 🦉."} {
		stream := prompted(t, guard)
		var shown bytes.Buffer
		writer := NewWriter(t.Context(), stream, &shown)
		if count, err := io.Copy(writer, iotest.OneByteReader(strings.NewReader(text))); err != nil || count != int64(len(text)) {
			t.Fatal(count, err)
		}
		if shown.Len() >= len(text) && text != "" {
			t.Fatal("nothing was kept for later")
		}
		for range 2 {
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if shown.String() != text {
			t.Fatalf("%q", shown.String())
		}
		_, err := writer.Write([]byte("a"))
		fails(t, err, ErrClosed, "writer")
		must(stream.NextTurn(t.Context(), User("And now?")))(t)
	}
}

func TestWriterStops(t *testing.T) {
	guard := openNano(t)
	text := harmless + " " + violent
	for size := range 12 {
		stream := prompted(t, guard)
		var shown bytes.Buffer
		writer := NewWriter(t.Context(), stream, &shown)
		var err error
		written := 0
		for rest := []byte(text); err == nil && len(rest) > 0; {
			piece := rest[:min(len(rest), size*size+1)]
			rest = rest[len(piece):]
			var count int
			count, err = writer.Write(piece)
			written += count
		}
		var stop *StopError
		if !errors.As(err, &stop) || stop.Update.Violation == nil || !strings.HasPrefix(stop.Rule, "answer.strict") {
			t.Fatalf("%d: %v", size, err)
		}
		if !strings.HasPrefix(err.Error(), "qwenguard: the answer was stopped at byte ") {
			t.Fatal(err)
		}
		horizon := stop.Update.Horizon
		if shown.String() != text[:horizon] || horizon > stop.Update.Violation.Bytes.Start || written > stop.Update.Received {
			t.Fatalf("%d: %q", size, shown.String())
		}
		received := stop.Update.Received
		if count, again := writer.Write([]byte("more")); count != 0 || again != err || writer.Close() != err {
			t.Fatal(count, again)
		}
		if update := must(stream.Truncate(t.Context(), horizon))(t); update.Decision != DecisionContinue || received <= horizon {
			t.Fatalf("%+v", update)
		}
	}
}

func TestWriterStopsAtTheEnd(t *testing.T) {
	stream := prompted(t, openNano(t))
	var shown bytes.Buffer
	writer := NewWriter(t.Context(), stream, &shown)
	// The token that confirms it is provisional until the answer ends.
	text, err := "", error(nil)
	for _, word := range strings.SplitAfter(violent, " ") {
		fork := must(stream.Fork())(t)
		must(fork.PushText(t.Context(), word))(t)
		update := must(fork.Finish(t.Context()))(t)
		fork.Close()
		if _, err = writer.Write([]byte(word)); err != nil {
			t.Fatal("the answer stops before its end")
		}
		text += word
		if update.Decision == DecisionStop {
			break
		}
	}
	var stop *StopError
	if err := writer.Close(); !errors.As(err, &stop) || writer.Close() != err {
		t.Fatal(err)
	}
	if shown.Len() != stop.Update.Horizon || shown.Len() >= len(text) {
		t.Fatal(shown.String())
	}
}

type shortWriter struct{ left int }

func (w *shortWriter) Write(text []byte) (int, error) {
	count := min(w.left, len(text))
	w.left -= count
	return count, nil
}

func TestWriterErrors(t *testing.T) {
	guard := openNano(t)
	stream := prompted(t, guard)
	var shown bytes.Buffer
	writer := NewWriter(t.Context(), stream, &shown)
	count, err := writer.Write([]byte("ab\xff"))
	if fails(t, err, ErrArgument, "byte 2"); count != 0 {
		t.Fatal(count)
	}
	_, err = writer.Write([]byte("ab\xc3"))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, writer.Close(), ErrArgument, "byte 2")
	if _, err := writer.Write([]byte("\xa4")); err != nil || writer.Close() != nil || shown.String() != "abä" {
		t.Fatal(err, shown.String())
	}

	writer = NewWriter(t.Context(), prompted(t, guard), &shortWriter{left: 10})
	count, err = writer.Write([]byte(harmless))
	if count != 10 || err != io.ErrShortWrite || writer.Close() != io.ErrShortWrite {
		t.Fatal(count, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = NewWriter(ctx, prompted(t, guard), io.Discard).Write([]byte("a"))
	fails(t, err, context.Canceled, "")
}

// A push takes no more than 1 MiB; a writer says what is wrong with more.
func TestWriterTakesLongPieces(t *testing.T) {
	guard := openNano(t)
	_, err := prompted(t, guard).PushText(t.Context(), strings.Repeat("a ", maxPush))
	fails(t, err, ErrArgument, "text")
	_, err = NewWriter(t.Context(), prompted(t, guard), io.Discard).Write([]byte(strings.Repeat("a ", maxPush)))
	fails(t, err, ErrContextFull, "")
}
