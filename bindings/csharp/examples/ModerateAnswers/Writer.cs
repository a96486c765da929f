using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

// A language model that writes a few characters at a time, as one would that runs elsewhere.
internal sealed class Writer : IAsyncEnumerable<string>
{
    private readonly string text;

    internal Writer(string text)
    {
        this.text = text;
    }

    public IAsyncEnumerator<string> GetAsyncEnumerator(CancellationToken cancellationToken = default(CancellationToken))
    {
        return new Pieces(text, cancellationToken);
    }

    private sealed class Pieces : IAsyncEnumerator<string>
    {
        private const int Length = 7;

        private readonly string text;
        private readonly CancellationToken cancellation;
        private int next;

        internal Pieces(string text, CancellationToken cancellation)
        {
            this.text = text;
            this.cancellation = cancellation;
        }

        public string Current { get; private set; }

        public ValueTask<bool> MoveNextAsync()
        {
            return new ValueTask<bool>(WriteAsync());
        }

        public ValueTask DisposeAsync()
        {
            return new ValueTask(Task.CompletedTask);
        }

        private async Task<bool> WriteAsync()
        {
            await Task.Delay(1, cancellation);
            if (next == text.Length)
                return false;
            Current = text.Substring(next, Math.Min(Length, text.Length - next));
            next += Current.Length;
            return true;
        }
    }
}
