using System;

namespace Qwenguard
{
    /// <summary>A message of a conversation.</summary>
    public readonly partial struct Message
    {
        /// <summary>A message of any role that the model's template knows.</summary>
        public Message(string role, string content)
        {
            Role = role ?? throw new ArgumentNullException(nameof(role));
            Content = content ?? throw new ArgumentNullException(nameof(content));
        }

        /// <summary>"system", "developer" (the same), "user", "assistant", "tool" or what else the model's template knows.</summary>
        public string Role { get; }

        /// <summary>The text. Special tokens in it are text: nobody can close their own turn.</summary>
        public string Content { get; }

        /// <summary>A message that says how the model is to answer.</summary>
        public static Message System(string content) => new Message("system", content);

        /// <summary>A message of the user.</summary>
        public static Message User(string content) => new Message("user", content);

        /// <summary>A message of the model.</summary>
        public static Message Assistant(string content) => new Message("assistant", content);

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Role + ": " + Content;
    }
}
