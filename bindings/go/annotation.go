package qwenguard

import (
	"context"
	"runtime"
	"time"
)

// AnnotateOptions are how conversations are annotated. The zero value is the default.
type AnnotateOptions struct {
	// Decoding is how the verdict is had of a model that writes it. It means nothing to a bundle of the variant stream.
	Decoding Decoding
	// Overflow is what happens to a conversation that does not fit the model's context.
	Overflow TextOverflow
}

// Annotation is the verdict on a whole conversation: a value, which needs no guard any more and is not closed.
type Annotation struct {
	// Mode is what was judged.
	Mode AnnotationMode
	// Risk is the level; of equally probable ones the gravest.
	Risk Risk
	// RiskProbabilities are by Risk, and sum to 1. nil with DecodingFree.
	RiskProbabilities []float32
	// Categories are those that the model names, in its order.
	Categories []string
	// CategoryProbabilities are of each category of the mode to be named first, in the model's order. With NoneProbability
	// they sum to 1. nil where the level is RiskSafe or categories are not decided.
	CategoryProbabilities []CategoryProbability
	// NoneProbability is that no category is named.
	NoneProbability float32
	// Refusal tells whether the answer refuses; nil where that is not known, as for prompts.
	Refusal *bool
	// RefusalProbability is nil where that was not decided.
	RefusalProbability *float32
	// Parsed tells that all lines of the answer could be read. It is false with DecodingFree only: a level that is missing
	// counts as the gravest.
	Parsed bool
	// Answer is what the model writes; empty if it writes nothing.
	Answer string
	// Judged are the bytes of the last message that were judged.
	Judged Span
	// Cut tells that they are only a part of it: see [TextOverflow].
	Cut bool
	// Windows is how many windows of it were judged.
	Windows int
	// IDCount is how many tokens the model writes its answer to. 0 if it writes nothing.
	IDCount int
	// Judgement is what the policy of the guard makes of it.
	Judgement

	handle *handle[rawAnnotation]
}

// CategoryProbability is the probability of a category.
type CategoryProbability struct {
	Category    string
	Probability float32
}

// Judgement is what a policy makes of an annotation.
type Judgement struct {
	// Decision is what is to be done.
	Decision Decision
	// Finding is nil if no rule of the policy applies.
	Finding *AnnotationFinding
}

// AnnotationFinding is what a policy found in an annotation.
type AnnotationFinding struct {
	// Action is ActionFlag or ActionStop.
	Action Action
	// Risk is the level that it counts as.
	Risk Risk
	// Category is the one whose rule applies, or that is named; empty if none is known.
	Category string
	// Probability is that of the level.
	Probability float32
	// Rule is the rule that applies, by the names of its settings, such as "answer.strict".
	Rule string
}

// newAnnotation takes an annotation of the library over.
func newAnnotation(raw rawAnnotation) (*Annotation, error) {
	held := &handle[rawAnnotation]{raw: raw, free: annotationFree}
	annotation, err := readAnnotation(raw)
	if err != nil {
		held.close()
		return nil, err
	}
	annotation.handle = held
	runtime.AddCleanup(annotation, (*handle[rawAnnotation]).forget, held)
	return annotation, nil
}

// raw is NULL for what no guard gave.
func (a *Annotation) raw() rawAnnotation {
	if a == nil || a.handle == nil {
		return nil
	}
	return a.handle.raw
}

// JSON is the line that `qwenguard annotate` writes, without an id.
func (a *Annotation) JSON() (string, error) {
	defer runtime.KeepAlive(a)
	return annotationJson(a.raw())
}

// Judge tells what another policy makes of it, a TOML document, without the model. An empty one means the guard's.
//
// It fails with ErrConfig if the policy is wrong or names a category that the model does not have.
func (a *Annotation) Judge(policy string) (Judgement, error) {
	defer runtime.KeepAlive(a)
	return judge(a.raw(), policy)
}

// Reward gives the reward of a response for reinforcement learning, by a rule: a TOML document, of which an empty one means the
// defaults, 1 if the response is safe and 0 if not. The annotation of its thinking, judged as a response of its own, may be
// nil; the response is safe if both say so. helpfulness is the score of a reward model, which the form "guard" has no use for.
//
// It fails with ErrConfig if the rule is wrong; ErrArgument if an annotation is of a prompt, the score is needed and is no
// finite number, or it matters whether the response refuses and that is not known.
func (a *Annotation) Reward(rule string, helpfulness float64, thinking *Annotation) (float64, error) {
	defer runtime.KeepAlive(a)
	defer runtime.KeepAlive(thinking)
	return annotationReward(a.raw(), thinking.raw(), rule, helpfulness)
}

// Annotate judges a whole conversation: what is asked, if the last message is the user's, else what is answered. For texts that
// are there already; what is being written a [Stream] judges. options may be nil.
//
// It fails with ErrArgument if a text is not UTF-8; ErrEnum for options that are none; ErrConversation if there is no message,
// the template refuses one or leaves out a part of it, or there is nothing to judge: the error names role and index, counted
// from 0; ErrContextFull if conversation and answer do not fit the model's context; ErrBusy.
func (g *Guard) Annotate(ctx context.Context, messages []Message, options *AnnotateOptions) (*Annotation, error) {
	if ctx.Done() != nil {
		call := annotateCall(g, messages, options)
		reply := call.await(ctx)
		return reply.Annotation, reply.Err
	}
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	return annotate(g.handle.raw, messages, options)
}

// AnnotateAll judges many conversations together and waits for all of them, which is much faster than one after the other.
// Replies are in the order of the conversations; one that fails leaves the others alone. For calls that can be cancelled there
// is [Queue.Annotate].
func (g *Guard) AnnotateAll(conversations [][]Message, options *AnnotateOptions) ([]Reply, error) {
	if err := g.acquire(); err != nil {
		return nil, err
	}
	defer g.release()
	return annotateAll(g.handle.raw, conversations, options)
}

// Annotate begins to annotate a conversation, as [Guard.Annotate] does. It comes back with [Reply].Annotation and no stream. The
// guard may be closed meanwhile. Tag, timeout and errors are as with Submit.
func (q *Queue) Annotate(guard *Guard, messages []Message, options *AnnotateOptions, tag uint64,
	timeout time.Duration) error {
	defer runtime.KeepAlive(q)
	if q.inbox == nil {
		return closed("queue")
	}
	call := annotateCall(guard, messages, options)
	return q.inbox.submit(&call, tag, timeout)
}

// annotateCall is what Queues take beside calls of streams.
func annotateCall(guard *Guard, messages []Message, options *AnnotateOptions) Call {
	call := Call{annotates: true, guard: guard, messages: messages}
	if options != nil {
		call.options = *options
	}
	return call
}
