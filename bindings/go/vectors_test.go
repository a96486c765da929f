package qwenguard

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type object = map[string]any

type vectors struct {
	Format int
	Config string
	// The bundle of the guard behind, by its place in the repository.
	SecondOpinion string `json:"second_opinion"`
	Categories    struct{ Prompt, Answer []string }
	Cases         []struct {
		Name  string
		Steps []json.RawMessage
	}
}

type step struct {
	Call     string
	Stream   int
	Policy   *string
	Messages []Message
	Text     string
	Hex      string
	Repeat   *int
	IDs      []uint32
	Bytes    int
	Tokens   int
	Calls    []step
	Expect   object
}

func TestVectors(t *testing.T) {
	for _, name := range []string{"vectors.json", "opinions.json", "built_in_opinions.json"} {
		testVectors(t, name)
	}
}

func testVectors(t *testing.T, name string) {
	all := must(os.ReadFile(filepath.Join(repository, "tests/vectors", name)))(t)
	var file vectors
	decode(t, all, &file)
	if file.Format != 1 || len(file.Cases) == 0 {
		t.Fatalf("format %d with %d cases", file.Format, len(file.Cases))
	}
	config := file.Config
	if file.SecondOpinion != "" {
		bundle := must(filepath.Abs(filepath.Join(repository, file.SecondOpinion)))(t)
		config += fmt.Sprintf("\n[second_opinion]\nbundle = '%s'\ncache_mib = 64\n", bundle)
	}
	guard := must(OpenNano(&Options{Config: config}))(t)
	defer guard.Close()
	for heads, wanted := range map[Heads][]string{HeadsPrompt: file.Categories.Prompt, HeadsAnswer: file.Categories.Answer} {
		if names := must(guard.Categories(heads))(t); !slices.Equal(names, wanted) {
			t.Fatalf("%v: %q", heads, names)
		}
	}
	// Each case twice: with plain calls, and with calls that can be cancelled.
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, ctx := range []context.Context{context.Background(), cancellable} {
		for _, test := range file.Cases {
			t.Run(test.Name, func(t *testing.T) {
				r := runner{guard: guard, ctx: ctx, categories: file.Categories}
				for index, raw := range test.Steps {
					var step step
					decode(t, raw, &step)
					found := r.answer(&step)
					if err := same("expect", step.Expect, found); err != nil {
						t.Fatalf("step %d, %s: %v", index, step.Call, err)
					}
				}
				for _, stream := range r.streams {
					stream.Close()
				}
			})
		}
	}
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// same compares what was found with what the file wants: all fields, and probabilities nearly.
func same(place string, wanted, found any) error {
	differs := fmt.Errorf("%s is %v, not %v", place, found, wanted)
	switch found := found.(type) {
	case object:
		wanted, ok := wanted.(object)
		if !ok || len(wanted) != len(found) {
			return differs
		}
		for key := range wanted {
			if _, ok := found[key]; !ok {
				return differs
			}
			if err := same(place+"."+key, wanted[key], found[key]); err != nil {
				return err
			}
		}
	case []any:
		wanted, ok := wanted.([]any)
		if !ok || len(wanted) != len(found) {
			return differs
		}
		for index := range wanted {
			if err := same(fmt.Sprintf("%s[%d]", place, index), wanted[index], found[index]); err != nil {
				return err
			}
		}
	case float32:
		number, _ := wanted.(json.Number)
		if value, err := number.Float64(); err != nil || math.Abs(value-float64(found)) > 1e-3 {
			return differs
		}
	case int:
		if wanted != json.Number(fmt.Sprint(found)) {
			return differs
		}
	default:
		if wanted != found {
			return differs
		}
	}
	return nil
}

// runner makes calls and writes what they answer as the file does.
type runner struct {
	guard      *Guard
	ctx        context.Context
	categories struct{ Prompt, Answer []string }
	streams    []*Stream
}

func (r *runner) answer(step *step) object {
	found, err := r.call(step)
	return r.outcome(found, err)
}

func (r *runner) outcome(found object, err error) object {
	var failure *Error
	if errors.As(err, &failure) {
		return object{"error": object{"status": failure.Status.String(), "message": failure.Message}}
	}
	if err != nil {
		return object{"error": err.Error()}
	}
	return found
}

func (r *runner) call(step *step) (object, error) {
	switch step.Call {
	case "open":
		open := r.guard.NewStream
		if step.Policy != nil {
			open = func() (*Stream, error) { return r.guard.NewStreamWithPolicy(*step.Policy) }
		}
		return r.add(open())
	case "encode":
		return r.encode(step.Text)
	case "call_all":
		var calls []Call
		for index := range step.Calls {
			calls = append(calls, r.made(&step.Calls[index]))
		}
		replies, err := CallAll(r.ctx, calls...)
		return r.replies(step.Calls, replies), err
	case "queue":
		replies, err := r.queue(step.Calls)
		return r.replies(step.Calls, replies), err
	}
	stream := r.streams[step.Stream]
	switch step.Call {
	case "fork":
		return r.add(stream.Fork())
	case "context_used":
		tokens, err := stream.ContextUsed()
		return object{"tokens": tokens}, err
	case "prompt":
		return r.check(stream)(stream.Prompt(r.ctx, step.Messages...))
	case "next_turn":
		return r.check(stream)(stream.NextTurn(r.ctx, step.Messages...))
	case "push_text":
		return r.update(stream)(stream.PushText(r.ctx, step.text()))
	case "push_thinking":
		return r.update(stream)(stream.PushThinking(r.ctx, step.text()))
	case "push_tokens":
		return r.update(stream)(stream.PushTokens(r.ctx, step.IDs))
	case "finish":
		return r.update(stream)(stream.Finish(r.ctx))
	case "truncate":
		return r.update(stream)(stream.Truncate(r.ctx, step.Bytes))
	case "truncate_tokens":
		return r.update(stream)(stream.TruncateTokens(r.ctx, step.Tokens))
	}
	return nil, fmt.Errorf("%q is no call", step.Call)
}

// made is the call of a step as a value.
func (r *runner) made(step *step) Call {
	stream := r.streams[step.Stream]
	switch step.Call {
	case "prompt":
		return stream.CallPrompt(step.Messages...)
	case "next_turn":
		return stream.CallNextTurn(step.Messages...)
	case "push_text":
		return stream.CallPushText(step.text())
	case "push_thinking":
		return stream.CallPushThinking(step.text())
	case "push_tokens":
		return stream.CallPushTokens(step.IDs)
	case "finish":
		return stream.CallFinish()
	case "truncate":
		return stream.CallTruncate(step.Bytes)
	case "truncate_tokens":
		return stream.CallTruncateTokens(step.Tokens)
	}
	panic(step.Call)
}

func (r *runner) queue(steps []step) ([]Reply, error) {
	queue, err := OpenQueue()
	if err != nil {
		return nil, err
	}
	defer queue.Close()
	replies := make([]Reply, len(steps))
	for index := range steps {
		if err := queue.Submit(r.made(&steps[index]), uint64(index), NoTimeout); err != nil {
			replies[index].Err = err
		}
	}
	for queue.Len() > 0 {
		completions, err := queue.Wait(r.ctx, 2)
		if err != nil {
			return nil, err
		}
		for _, completion := range completions {
			replies[completion.Tag] = completion.Reply
		}
	}
	return replies, nil
}

func (r *runner) replies(steps []step, replies []Reply) object {
	all := []any{}
	for index, reply := range replies {
		stream := r.streams[steps[index].Stream]
		var found object
		err := reply.Err
		switch {
		case reply.Check != nil:
			found, err = r.check(stream)(*reply.Check, nil)
		case reply.Update != nil:
			found, err = r.update(stream)(*reply.Update, nil)
		}
		all = append(all, r.outcome(found, err))
	}
	return object{"replies": all}
}

func (r *runner) add(stream *Stream, err error) (object, error) {
	if err == nil {
		r.streams = append(r.streams, stream)
	}
	return object{}, err
}

func (r *runner) encode(text string) (object, error) {
	ids, spans, err := r.guard.Encode(text)
	numbers, pairs := []any{}, []any{}
	for index := range ids {
		numbers = append(numbers, int(ids[index]))
		pairs = append(pairs, []any{spans[index].Start, spans[index].End})
	}
	return object{"ids": numbers, "spans": pairs}, err
}

func (r *runner) check(stream *Stream) func(PromptCheck, error) (object, error) {
	return func(check PromptCheck, err error) (object, error) {
		if err != nil {
			return nil, err
		}
		var finding any
		if found := check.Finding; found != nil {
			var rule string
			rule, err = stream.Rule()
			finding = object{
				"action": found.Action.String(), "risk": found.Risk.String(), "probability": found.Probability,
				"category": r.categories.Prompt[found.Category], "rule": rule,
			}
		}
		return object{
			"decision": check.Decision.String(),
			"finding":  finding,
			"verdict":  verdict(&check.Verdict, r.categories.Prompt),
		}, err
	}
}

func (r *runner) update(stream *Stream) func(Update, error) (object, error) {
	return func(update Update, err error) (object, error) {
		if err != nil {
			return nil, err
		}
		found := object{
			"decision": update.Decision.String(), "horizon": update.Horizon, "horizon_tokens": update.HorizonTokens,
			"received": update.Received, "excess": update.Excess, "final_tokens": update.FinalTokens, "violation": nil,
			"void_from": update.VoidFrom,
		}
		if update.Violation != nil {
			rule, err := stream.Rule()
			if err != nil {
				return nil, err
			}
			found["violation"] = r.violation(update.Violation, rule)
		}
		tokens, err := stream.Tokens()
		if err != nil || len(tokens) != update.TokenCount {
			return nil, fmt.Errorf("%d tokens of %d: %v", len(tokens), update.TokenCount, err)
		}
		found["tokens"] = r.tokens(tokens)
		flags, err := stream.Flags()
		if err != nil || len(flags) != update.FlagCount {
			return nil, fmt.Errorf("%d flags of %d: %v", len(flags), update.FlagCount, err)
		}
		all := []any{}
		for index := range flags {
			rule, err := stream.FlagRule(index)
			if err != nil {
				return nil, err
			}
			all = append(all, r.violation(&flags[index], rule))
		}
		found["flags"] = all
		return found, r.addOpinions(stream, update.OpinionCount, found)
	}
}

func (r *runner) addOpinions(stream *Stream, count int, update object) error {
	opinions, err := stream.Opinions()
	if err != nil || len(opinions) != count {
		return fmt.Errorf("%d opinions of %d: %v", len(opinions), count, err)
	}
	all := []any{}
	for index, opinion := range opinions {
		found := object{
			"trigger": opinion.Trigger.String(), "outcome": opinion.Outcome.String(), "channel": opinion.Channel.String(),
			"byte_start": opinion.Bytes.Start, "byte_end": opinion.Bytes.End, "first_token": opinion.FirstToken,
			"confirming_token": opinion.ConfirmingToken,
		}
		annotation, err := stream.OpinionAnnotation(index)
		if opinion.Annotated != (err == nil) || err == nil && annotation.Risk != opinion.Risk {
			return fmt.Errorf("annotation of opinion %d: %v", index, err)
		}
		if err != nil {
			found["error"] = r.outcome(nil, err)["error"]
		} else {
			risks := []any{}
			for _, probability := range opinion.RiskProbabilities {
				risks = append(risks, probability)
			}
			found["risk"], found["risk_probs"] = opinion.Risk.String(), risks
		}
		all = append(all, found)
	}
	if count > 0 {
		update["opinions"] = all
	}
	return nil
}

func (r *runner) violation(found *Violation, rule string) object {
	return object{
		"action": found.Action.String(), "channel": found.Channel.String(), "risk": found.Risk.String(),
		"category": r.categories.Answer[found.Category], "probability": found.Probability, "rule": rule,
		"byte_start": found.Bytes.Start, "byte_end": found.Bytes.End,
		"first_token": found.FirstToken, "confirming_token": found.ConfirmingToken,
	}
}

func (r *runner) tokens(tokens []TokenVerdict) []any {
	all := []any{}
	for index := range tokens {
		token := &tokens[index]
		all = append(all, object{
			"index": token.Index, "id": int(token.ID), "channel": token.Channel.String(), "final": token.Final,
			"byte_start": token.Bytes.Start, "byte_end": token.Bytes.End,
			"verdict": verdict(&token.Verdict, r.categories.Answer),
		})
	}
	return all
}

func verdict(found *Verdict, names []string) object {
	var category any
	if found.Category >= 0 {
		category = names[found.Category]
	}
	risks, categories := []any{}, []any{}
	for _, probability := range found.RiskProbabilities {
		risks = append(risks, probability)
	}
	for _, probability := range found.CategoryProbabilities() {
		categories = append(categories, probability)
	}
	return object{
		"risk": found.Risk.String(), "category": category, "risk_probs": risks, "category_probs": categories,
	}
}

func (s *step) text() string {
	text := s.Text
	if s.Hex != "" {
		bytes, err := hex.DecodeString(s.Hex)
		if err != nil {
			panic(err)
		}
		text = string(bytes)
	}
	if s.Repeat != nil {
		text = strings.Repeat(text, *s.Repeat)
	}
	return text
}
