package qwenguard

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type annotationVectors struct {
	Format int
	Config string
	Groups []annotationGroup
}

type annotationGroup struct {
	Guard, Decoding, Overflow string
	Categories                struct{ Prompt, Response []string }
	Cases                     []annotationCase
}

type annotationCase struct {
	Name     string
	Messages []Message
	Repeat   *int
	Policies []string
	Rewards  []struct {
		Rule        string
		Helpfulness float64
		Thinking    *int
	}
	Expect object
}

// Every conversation alone, together with the others of its group, and through a queue.
func TestAnnotationVectors(t *testing.T) {
	var file annotationVectors
	decode(t, must(os.ReadFile(filepath.Join(repository, "tests/vectors/annotations.json")))(t), &file)
	if file.Format != 1 || len(file.Groups) == 0 {
		t.Fatalf("format %d with %d groups", file.Format, len(file.Groups))
	}
	for _, group := range file.Groups {
		t.Run(filepath.Base(group.Guard)+" "+group.Decoding+" "+group.Overflow, func(t *testing.T) {
			guard := openGroup(t, group, file.Config)
			defer guard.Close()
			cancellable, cancel := context.WithCancel(t.Context())
			defer cancel()
			group.compare(t, group.alone(context.Background(), guard))
			if group.Overflow != OverflowRefuse.String() {
				return
			}
			group.compare(t, group.alone(cancellable, guard))
			group.compare(t, must(guard.AnnotateAll(group.conversations(), group.options()))(t))
			group.compare(t, group.queued(t, guard))
		})
	}
}

func openGroup(t *testing.T, group annotationGroup, config string) *Guard {
	t.Helper()
	options := &Options{Config: config}
	var guard *Guard
	switch group.Guard {
	case "nano":
		guard = must(OpenNano(options))(t)
	case "nano-gen":
		guard = must(OpenNanoGen(options))(t)
	default:
		guard = must(Open(filepath.Join(repository, group.Guard), options))(t)
	}
	prompt, answer := must(guard.Categories(HeadsPrompt))(t), must(guard.Categories(HeadsAnswer))(t)
	if !slices.Equal(prompt, group.Categories.Prompt) || !slices.Equal(answer, group.Categories.Response) {
		t.Fatalf("%q, %q", prompt, answer)
	}
	return guard
}

func (g *annotationGroup) options() *AnnotateOptions {
	options := &AnnotateOptions{}
	for options.Decoding.String() != g.Decoding {
		options.Decoding++
	}
	for options.Overflow.String() != g.Overflow {
		options.Overflow++
	}
	return options
}

func (g *annotationGroup) conversations() [][]Message {
	var all [][]Message
	for _, test := range g.Cases {
		messages := slices.Clone(test.Messages)
		if test.Repeat != nil {
			last := &messages[len(messages)-1]
			last.Content = strings.Repeat(last.Content, *test.Repeat)
		}
		all = append(all, messages)
	}
	return all
}

func (g *annotationGroup) alone(ctx context.Context, guard *Guard) []Reply {
	var replies []Reply
	for _, messages := range g.conversations() {
		annotation, err := guard.Annotate(ctx, messages, g.options())
		replies = append(replies, Reply{Err: err, Annotation: annotation})
	}
	return replies
}

func (g *annotationGroup) queued(t *testing.T, guard *Guard) []Reply {
	queue := must(OpenQueue())(t)
	defer queue.Close()
	replies := make([]Reply, len(g.Cases))
	for index, messages := range g.conversations() {
		replies[index].Err = queue.Annotate(guard, messages, g.options(), uint64(index), NoTimeout)
	}
	for queue.Len() > 0 {
		for _, completion := range must(queue.Wait(t.Context(), 2))(t) {
			if completion.Stream != nil {
				t.Fatal("an annotation has no stream")
			}
			replies[completion.Tag] = completion.Reply
		}
	}
	return replies
}

func (g *annotationGroup) compare(t *testing.T, replies []Reply) {
	t.Helper()
	for index, test := range g.Cases {
		found, err := test.found(replies, index)
		if err := same(test.Name, test.Expect, outcome(found, err)); err != nil {
			t.Error(err)
		}
	}
}

func (c *annotationCase) found(replies []Reply, index int) (object, error) {
	reply := replies[index]
	if reply.Err != nil {
		return nil, reply.Err
	}
	annotation := reply.Annotation
	found := said(annotation)
	text, err := annotation.JSON()
	var line struct{ Mode string }
	if err == nil {
		err = json.Unmarshal([]byte(text), &line)
	}
	if err != nil || line.Mode != annotation.Mode.String() {
		return nil, errors.New("the line says " + text)
	}
	judgements, rewards := []any{}, []any{}
	for _, policy := range c.Policies {
		judgement, err := annotation.Judge(policy)
		judgements = append(judgements, outcome(judged(judgement), err))
	}
	for _, rule := range c.Rewards {
		var thinking *Annotation
		if rule.Thinking != nil {
			thinking = replies[*rule.Thinking].Annotation
		}
		reward, err := annotation.Reward(rule.Rule, rule.Helpfulness, thinking)
		rewards = append(rewards, outcome(object{"reward": float32(reward)}, err))
	}
	found["judgements"], found["rewards"] = judgements, rewards
	return found, nil
}

func outcome(found object, err error) object {
	var r runner
	return r.outcome(found, err)
}

func said(annotation *Annotation) object {
	found := judged(annotation.Judgement)
	found["mode"], found["risk"] = annotation.Mode.String(), annotation.Risk.String()
	found["risk_probs"], found["category_probs"], found["refusal"], found["refusal_prob"] = nil, nil, nil, nil
	if annotation.RiskProbabilities != nil {
		risks := []any{}
		for _, probability := range annotation.RiskProbabilities {
			risks = append(risks, probability)
		}
		found["risk_probs"] = risks
	}
	named := []any{}
	for _, category := range annotation.Categories {
		named = append(named, category)
	}
	found["categories"] = named
	if annotation.CategoryProbabilities != nil {
		probabilities := []any{}
		for _, category := range annotation.CategoryProbabilities {
			probabilities = append(probabilities, category.Probability)
		}
		found["category_probs"] = probabilities
	}
	found["none_prob"] = annotation.NoneProbability
	if annotation.Refusal != nil {
		found["refusal"] = *annotation.Refusal
	}
	if annotation.RefusalProbability != nil {
		found["refusal_prob"] = *annotation.RefusalProbability
	}
	found["parsed"], found["answer"], found["cut"] = annotation.Parsed, annotation.Answer, annotation.Cut
	found["judged"] = []any{annotation.Judged.Start, annotation.Judged.End}
	found["windows"], found["ids"] = annotation.Windows, annotation.IDCount
	return found
}

func judged(judgement Judgement) object {
	found := object{"decision": judgement.Decision.String(), "finding": nil}
	if finding := judgement.Finding; finding != nil {
		var category any
		if finding.Category != "" {
			category = finding.Category
		}
		found["finding"] = object{
			"action": finding.Action.String(), "risk": finding.Risk.String(), "category": category,
			"probability": finding.Probability, "rule": finding.Rule,
		}
	}
	return found
}

func TestAnnotationsOutliveTheirGuard(t *testing.T) {
	guard := must(OpenNano(&Options{Threads: 1, CacheMiB: 64}))(t)
	messages := []Message{User("How do I clean the kitchen?"), Assistant(violent)}
	annotation := must(guard.Annotate(context.Background(), messages, nil))(t)
	guard.Close()
	runtime.GC()
	if annotation.Risk != RiskUnsafe || annotation.Decision != DecisionStop || annotation.Mode != ModeResponse {
		t.Fatalf("%+v", annotation)
	}
	judgement := must(annotation.Judge("[answer]\nmode = { custom = { unsafe = { action = 'flag' } } }"))(t)
	if judgement.Decision != DecisionContinue || judgement.Finding == nil || judgement.Finding.Action != ActionFlag {
		t.Fatalf("%+v", judgement)
	}
	_, err := annotation.Judge("answer.categories.Spam.action = 'flag'")
	fails(t, err, ErrConfig, "Spam")
	_, err = annotation.Reward("what = 1", 0, nil)
	fails(t, err, ErrConfig, "what")
	_, err = guard.Annotate(context.Background(), messages, nil)
	fails(t, err, ErrClosed, "guard")
	_, err = guard.Annotate(t.Context(), messages, nil)
	fails(t, err, ErrClosed, "guard")
	_, err = guard.AnnotateAll([][]Message{messages}, nil)
	fails(t, err, ErrClosed, "guard")
}

func TestWrongAnnotations(t *testing.T) {
	guard := openNano(t)
	queue := must(OpenQueue())(t)
	defer queue.Close()
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		_, err := guard.Annotate(ctx, nil, nil)
		fails(t, err, ErrConversation, "no message")
		_, err = guard.Annotate(ctx, []Message{User("\xff")}, nil)
		fails(t, err, ErrArgument, "UTF-8")
		_, err = guard.Annotate(ctx, []Message{User("Hello")}, &AnnotateOptions{Decoding: 3})
		fails(t, err, ErrEnum, "options.decoding")
		_, err = guard.Annotate(ctx, []Message{User("Hello")}, &AnnotateOptions{Overflow: 4})
		fails(t, err, ErrEnum, "options.overflow")
	}
	fails(t, queue.Annotate(guard, []Message{User("\xff")}, nil, 1, NoTimeout), ErrArgument, "UTF-8")
	fails(t, queue.Annotate(nil, nil, nil, 1, NoTimeout), ErrNull, "guard")
	if queue.Len() != 0 {
		t.Fatalf("%d in the queue", queue.Len())
	}
	var nobody Annotation
	_, err := nobody.JSON()
	fails(t, err, ErrNull, "annotation")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = guard.Annotate(ended, []Message{User("Hello")}, nil)
	fails(t, err, context.Canceled, "cancelled")
}

// Each comes back once, done or given up.
func TestAnnotationsAreGivenUp(t *testing.T) {
	guard := openNano(t)
	queue := must(OpenQueue())(t)
	const count = 24
	messages := []Message{User("How do I clean the kitchen?"), Assistant(strings.Repeat(harmless, 4))}
	for tag := range uint64(count) {
		timeout := NoTimeout
		if tag%3 == 1 {
			timeout = 0
		}
		if err := queue.Annotate(guard, messages, nil, tag%3, timeout); err != nil {
			t.Fatal(err)
		}
	}
	cancelled := must(queue.Cancel(2))(t)
	for range count {
		done := must(queue.Wait(t.Context(), 1))(t)[0]
		switch {
		case done.Err == nil:
			if done.Annotation == nil || done.Annotation.Risk != RiskSafe {
				t.Fatalf("%+v", done)
			}
		case done.Tag == 2:
			fails(t, done.Err, ErrCancelled, "cancelled")
			cancelled--
		default:
			fails(t, done.Err, ErrDeadlineExceeded, "deadline")
		}
	}
	if cancelled != 0 || queue.Len() != 0 {
		t.Fatalf("%d more were cancelled, %d are left", cancelled, queue.Len())
	}
	for range count {
		if err := queue.Annotate(guard, messages, nil, 0, NoTimeout); err != nil {
			t.Fatal(err)
		}
	}
	queue.Close()
	fails(t, queue.Annotate(guard, messages, nil, 0, NoTimeout), ErrClosed, "queue")
	if stats := must(guard.Stats())(t); stats.OpenStreams != 0 {
		t.Fatalf("%d streams are open", stats.OpenStreams)
	}
}
