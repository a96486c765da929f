namespace Qwenguard
{
    /// <summary>How a call ended. Later libraries may have more.</summary>
    public enum Status
    {
        /// <summary>It worked.</summary>
        Ok = 0,
        /// <summary>The ONNX Runtime library was found nowhere; the message lists where.</summary>
        RuntimeNotFound = 1,
        /// <summary>An ONNX Runtime library was found but cannot be used.</summary>
        RuntimeUnusable = 2,
        /// <summary>The execution provider that was asked for cannot be had here.</summary>
        Provider = 3,
        /// <summary>A setting of the configuration or of a policy is wrong; the message names it.</summary>
        Config = 4,
        /// <summary>A file of the bundle is missing, unreadable or damaged.</summary>
        BundleFile = 5,
        /// <summary>The bundle's guard.toml says something that the library cannot accept.</summary>
        BundleField = 6,
        /// <summary>The bundle was made in a format that this version does not read.</summary>
        BundleFormat = 7,
        /// <summary>The conversation cannot be rendered, or there is nothing in it to judge.</summary>
        Conversation = 8,
        /// <summary>An argument is out of its documented range; the message names it.</summary>
        Argument = 9,
        /// <summary>The call has no meaning at this moment, such as an answer before its prompt.</summary>
        WrongState = 10,
        /// <summary>The conversation does not fit the model's context. Nothing was added.</summary>
        ContextFull = 11,
        /// <summary>A limit is reached that passes with time. Try again later, or dispose of streams.</summary>
        Busy = 12,
        /// <summary>Memory could not be had.</summary>
        OutOfMemory = 13,
        /// <summary>ONNX Runtime failed to load or run the graph.</summary>
        Inference = 14,
        /// <summary>The guard's engine has stopped after a failure. Open the guard again.</summary>
        EngineStopped = 15,
        /// <summary>The deadline passed before the tokens were computed. Nothing was added.</summary>
        DeadlineExceeded = 16,
        /// <summary>The stream was idle for longer than the configuration allows. Open a new one.</summary>
        Expired = 17,
        /// <summary>The call was cancelled. Nothing was added.</summary>
        Cancelled = 18,
        /// <summary>A pointer is NULL that must not be.</summary>
        Null = 100,
        /// <summary>A number is none of the values that the argument can have.</summary>
        Enum = 101,
        /// <summary>Another call of the stream is going on: a stream has one user at a time.</summary>
        InUse = 102,
        /// <summary>A bug of the library. The stream that it happened on stays unusable; dispose of it.</summary>
        Panic = 103,
    }

    /// <summary>What a host should do with a conversation.</summary>
    public enum Decision
    {
        /// <summary>It may go on.</summary>
        Continue = 0,
        /// <summary>Stop writing, and show nothing past the horizon.</summary>
        Stop = 1,
    }

    /// <summary>How bad a text is.</summary>
    public enum Risk
    {
        /// <summary>Harmless.</summary>
        Safe = 0,
        /// <summary>Harmful in some contexts or to some readers.</summary>
        Controversial = 1,
        /// <summary>Harmful.</summary>
        Unsafe = 2,
    }

    /// <summary>What is to be done where a rule of the policy applies.</summary>
    public enum PolicyAction
    {
        /// <summary>Nothing.</summary>
        Ignore = 0,
        /// <summary>Report it and go on.</summary>
        Flag = 1,
        /// <summary>Stop.</summary>
        Stop = 2,
    }

    /// <summary>A part of an answer with rules of its own.</summary>
    public enum Channel
    {
        /// <summary>What the answer says.</summary>
        Answer = 0,
        /// <summary>The thinking before it.</summary>
        Thinking = 1,
    }

    /// <summary>Why a second opinion was asked for.</summary>
    public enum OpinionTrigger
    {
        /// <summary>A violation was confirmed.</summary>
        Violation = 0,
        /// <summary>Tokens were uncertain.</summary>
        Uncertain = 1,
    }

    /// <summary>What came of a second opinion.</summary>
    public enum OpinionOutcome
    {
        /// <summary>It found something: the violation stands, or uncertain tokens are one.</summary>
        Confirmed = 0,
        /// <summary>It found nothing: the violation is lifted.</summary>
        Lifted = 1,
        /// <summary>It found nothing: uncertain tokens do not count any more.</summary>
        Cleared = 2,
        /// <summary>By the policy it changes nothing.</summary>
        Reported = 3,
        /// <summary>It could not be had: the violation stands, or uncertain tokens count as one, unless by the policy it
        /// changes nothing.</summary>
        Failed = 4,
    }

    /// <summary>The model's heads, each with categories of its own.</summary>
    public enum Heads
    {
        /// <summary>Those that judge prompts.</summary>
        Prompt = 0,
        /// <summary>Those that judge answers, thinking included.</summary>
        Answer = 1,
    }

    /// <summary>What of a conversation was judged.</summary>
    public enum AnnotationMode
    {
        /// <summary>What the user asks: the last message is the user's. Categories are those of Heads.Prompt.</summary>
        Prompt = 0,
        /// <summary>What is answered: the last message is of any other role. Categories are those of Heads.Answer.</summary>
        Response = 1,
    }

    /// <summary>How a verdict on a whole conversation is had of a model that writes it.</summary>
    public enum Decoding
    {
        /// <summary>Held to the answer's grammar. Always gives a verdict, and probabilities of all decisions.</summary>
        Constrained = 0,
        /// <summary>Held to the grammar, and only the level is decided, without categories and refusal.</summary>
        LabelOnly = 1,
        /// <summary>As the official code has it, and what can be read in that. Slower by far, and without
        /// probabilities.</summary>
        Free = 2,
    }

    /// <summary>What happens to a conversation that does not fit the model's context. Only its last message is ever cut,
    /// between characters; if the others leave room for fewer than 16 tokens of it, that is ContextFull.</summary>
    public enum TextOverflow
    {
        /// <summary>It is an error.</summary>
        Refuse = 0,
        /// <summary>The beginning of its last message is judged.</summary>
        Head = 1,
        /// <summary>The end of its last message is judged.</summary>
        Tail = 2,
        /// <summary>All of its last message is judged, in windows. The annotation is that of the gravest one; whether the
        /// answer refuses is said by the first.</summary>
        Windows = 3,
    }

    internal enum CallKind : uint
    {
        Prompt = 0,
        NextTurn = 1,
        PushText = 2,
        PushThinking = 3,
        PushTokens = 4,
        Finish = 5,
        Truncate = 6,
        TruncateTokens = 7,
    }
}
