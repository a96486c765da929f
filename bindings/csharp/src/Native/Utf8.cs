using System;
using System.Text;

namespace Qwenguard.Native
{
    internal static unsafe class Utf8
    {
        /// <summary>Strings of no more characters are encoded on the stack.</summary>
        internal const int StackCharacters = 128;

        /// <summary>What they take at most.</summary>
        internal const int StackBytes = 3 * StackCharacters;

        private static readonly UTF8Encoding Strict = new UTF8Encoding(false, true);

        internal static byte[] Encode(string text, string argument)
        {
            if (text == null)
                throw new ArgumentNullException(argument);
            try
            {
                return Strict.GetBytes(text);
            }
            catch (EncoderFallbackException error)
            {
                throw HalfCharacter(error, argument);
            }
        }

        /// <summary>Encodes a short string into StackBytes bytes and gives their number.</summary>
        internal static int Encode(string text, byte* bytes, string argument)
        {
            if (text.Length == 0)
                return 0;
            try
            {
                fixed (char* characters = text)
                    return Strict.GetBytes(characters, text.Length, bytes, StackBytes);
            }
            catch (EncoderFallbackException error)
            {
                throw HalfCharacter(error, argument);
            }
        }

        /// <summary>Decodes a text that ends with a NUL; null for NULL.</summary>
        internal static string Decode(byte* text)
        {
            if (text == null)
                return null;
            int length = 0;
            while (text[length] != 0)
                length++;
            return Decode(text, length);
        }

        internal static string Decode(byte* text, int length)
        {
            return length == 0 ? "" : Encoding.UTF8.GetString(text, length);
        }

        private static ArgumentException HalfCharacter(EncoderFallbackException error, string argument)
        {
            return new ArgumentException(
                "a surrogate stands alone at index " + error.Index + ": give both halves at once, or UTF-8 bytes", argument,
                error);
        }
    }
}
