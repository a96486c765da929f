using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Web.Script.Serialization;

namespace Qwenguard.Tests
{
    using Json = Dictionary<string, object>;

    /// <summary>tests/vectors/vectors.json, whose README says what is in it.</summary>
    public static class VectorTests
    {
        public static void All()
        {
            Check.That(All("vectors.json") > 200, "there are steps");
            if (Samples.Provider != "")
                return;
            Check.That(All("opinions.json") > 100, "there are steps");
            Check.That(All("built_in_opinions.json") > 10, "there are steps");
        }

        private static int All(string file)
        {
            var reader = new JavaScriptSerializer { MaxJsonLength = int.MaxValue };
            var vectors = (Json)reader.DeserializeObject(File.ReadAllText("tests/vectors/" + file));
            Check.Equal(1, (int)vectors["format"], "format");
            var config = (string)vectors["config"];
            if (vectors.ContainsKey("second_opinion"))
                config += "\n[second_opinion]\nbundle = '" + Path.GetFullPath((string)vectors["second_opinion"])
                    + "'\ncache_mib = 64\n";
            int steps = 0;
            using (Guard guard = Open(config))
            {
                var categories = (Json)vectors["categories"];
                Check.That(Texts(categories["prompt"]).SequenceEqual(guard.GetCategories(Heads.Prompt)), "categories");
                Check.That(Texts(categories["answer"]).SequenceEqual(guard.GetCategories(Heads.Answer)), "categories");
                foreach (Json one in (object[])vectors["cases"])
                    using (var vectorCase = new VectorCase(guard))
                        foreach (Json step in (object[])one["steps"])
                        {
                            Run(vectorCase, step, one["name"] + ", step " + steps);
                            steps++;
                        }
            }
            return steps;
        }

        private static Guard Open(string config)
        {
            if (Samples.Provider == "")
                return Guard.OpenNano(new GuardOptions { ConfigToml = config });
            config += "\nruntime.provider = '" + Samples.Provider + "'";
            return Guard.Open("target/golden-gpu/nano", new GuardOptions { ConfigToml = config });
        }

        private static IEnumerable<string> Texts(object array)
        {
            return ((object[])array).Cast<string>();
        }

        private static void Run(VectorCase vectorCase, Json step, string place)
        {
            try
            {
                vectorCase.Run(step);
            }
            catch (Exception error)
            {
                throw new CheckFailed(place + ", " + step["call"] + ": " + error.Message);
            }
        }
    }

    internal sealed class VectorCase : IDisposable
    {
        private readonly Guard guard;
        private readonly List<GuardStream> streams = new List<GuardStream>();

        internal VectorCase(Guard guard)
        {
            this.guard = guard;
        }

        public void Dispose()
        {
            foreach (GuardStream stream in streams)
                stream.Dispose();
        }

        internal void Run(Json step)
        {
            var expect = (Json)step["expect"];
            Action compare;
            try
            {
                compare = Call(step, expect);
            }
            catch (QwenguardException error)
            {
                Failure(error.Status, error.Message, expect);
                return;
            }
            Check.That(!expect.ContainsKey("error"), "it fails");
            compare();
        }

        /// <summary>Makes the call, and gives what compares its answer.</summary>
        private Action Call(Json step, Json expect)
        {
            string call = (string)step["call"];
            switch (call)
            {
                case "open":
                    streams.Add(guard.OpenStream(step.ContainsKey("policy") ? (string)step["policy"] : null));
                    return () => { };
                case "encode":
                    TextToken[] tokens = guard.Encode((string)step["text"]);
                    return () => Encoded(tokens, expect);
                case "call_all":
                    List<StreamCall> calls = Calls(step).Select(StreamCallOf).ToList();
                    IReadOnlyList<Reply> replies = GuardStream.CallAll(calls);
                    return () => Replies(replies.Select(reply => new Answer(reply)).ToList(), step, expect);
                case "queue":
                    List<Answer> answers = Queued(Calls(step));
                    return () => Replies(answers, step, expect);
                default:
                    return Call(call, StreamOf(step), step, expect);
            }
        }

        private Action Call(string call, GuardStream stream, Json step, Json expect)
        {
            switch (call)
            {
                case "fork":
                    streams.Add(stream.Fork());
                    return () => { };
                case "context_used":
                    long used = stream.GetContextUsed();
                    return () => Check.Equal(Whole(expect["tokens"]), used, "tokens");
                case "prompt": return Compared(stream, stream.Prompt(Messages(step)), expect);
                case "next_turn": return Compared(stream, stream.NextTurn(Messages(step)), expect);
                case "push_text": return Compared(stream, stream.PushText(Bytes(step)), expect);
                case "push_thinking": return Compared(stream, stream.PushThinking(Bytes(step)), expect);
                case "push_tokens": return Compared(stream, stream.PushTokens(Ids(step)), expect);
                case "finish": return Compared(stream, stream.Finish(), expect);
                case "truncate": return Compared(stream, stream.Truncate(Whole(step["bytes"])), expect);
                case "truncate_tokens": return Compared(stream, stream.TruncateTokens(Whole(step["tokens"])), expect);
                default: throw new CheckFailed("no such call");
            }
        }

        private StreamCall StreamCallOf(Json step)
        {
            GuardStream stream = StreamOf(step);
            switch ((string)step["call"])
            {
                case "prompt": return StreamCall.Prompt(stream, Messages(step));
                case "next_turn": return StreamCall.NextTurn(stream, Messages(step));
                case "push_text": return StreamCall.PushText(stream, Bytes(step));
                case "push_thinking": return StreamCall.PushThinking(stream, Bytes(step));
                case "push_tokens": return StreamCall.PushTokens(stream, Ids(step));
                case "finish": return StreamCall.Finish(stream);
                case "truncate": return StreamCall.Truncate(stream, Whole(step["bytes"]));
                case "truncate_tokens": return StreamCall.TruncateTokens(stream, Whole(step["tokens"]));
                default: throw new CheckFailed("no such call of many streams");
            }
        }

        /// <summary>What a call of many answered; the queue refuses some before they begin.</summary>
        private sealed class Answer
        {
            internal readonly Reply Reply;
            internal readonly Status Status;
            internal readonly string Message;

            internal Answer(Reply reply)
            {
                Reply = reply;
                Status = reply.Status;
                Message = reply.Message;
            }

            internal Answer(QwenguardException error)
            {
                Status = error.Status;
                Message = error.Message;
            }
        }

        private List<Answer> Queued(List<Json> steps)
        {
            var answers = new SortedDictionary<ulong, Answer>();
            using (var queue = new CompletionQueue())
            {
                for (int tag = 0; tag < steps.Count; tag++)
                    try
                    {
                        queue.Submit(StreamCallOf(steps[tag]), (ulong)tag);
                    }
                    catch (QwenguardException error)
                    {
                        answers.Add((ulong)tag, new Answer(error));
                    }
                while (queue.Count > 0)
                    foreach (Completion done in queue.Wait())
                        answers.Add(done.Tag, new Answer(done.Reply));
            }
            return answers.Values.ToList();
        }

        private void Replies(List<Answer> answers, Json step, Json expect)
        {
            List<Json> steps = Calls(step);
            List<Json> wanted = ((object[])expect["replies"]).Cast<Json>().ToList();
            Check.Equal(wanted.Count, answers.Count, "replies");
            for (int index = 0; index < wanted.Count; index++)
            {
                Answer answer = answers[index];
                GuardStream stream = StreamOf(steps[index]);
                if (answer.Status != Status.Ok)
                    Failure(answer.Status, answer.Message, wanted[index]);
                else if (wanted[index].ContainsKey("error"))
                    throw new CheckFailed("reply " + index + " is no error");
                else if (wanted[index].ContainsKey("tokens"))
                    Compared(stream, answer.Reply.GetUpdate(), wanted[index])();
                else
                    Compared(stream, answer.Reply.GetCheck(), wanted[index])();
            }
        }

        private static void Failure(Status status, string message, Json expect)
        {
            if (!expect.ContainsKey("error"))
                throw new CheckFailed("it failed: " + message);
            var error = (Json)expect["error"];
            Check.Equal((string)error["status"], status.Name(), "status");
            Check.Equal((string)error["message"], message, "message");
        }

        private static void Encoded(TextToken[] tokens, Json expect)
        {
            var ids = (object[])expect["ids"];
            var spans = (object[])expect["spans"];
            Check.Equal(ids.Length, tokens.Length, "tokens");
            for (int index = 0; index < tokens.Length; index++)
            {
                var span = (object[])spans[index];
                Check.Equal(Whole(ids[index]), tokens[index].Id, "id");
                Check.Equal(Whole(span[0]), tokens[index].Bytes.Start, "start");
                Check.Equal(Whole(span[1]), tokens[index].Bytes.End, "end");
            }
        }

        private Action Compared(GuardStream stream, PromptCheck check, Json expect)
        {
            return () =>
            {
                Check.Equal((string)expect["decision"], Lower(check.Decision), "decision");
                Compare(check.Verdict, (Json)expect["verdict"], Heads.Prompt);
                var finding = (Json)expect["finding"];
                Check.Equal(finding != null, check.Finding.HasValue, "there is a finding");
                if (finding == null)
                    return;
                Finding found = check.Finding.Value;
                Check.Equal((string)finding["action"], Lower(found.Action), "action");
                Check.Equal((string)finding["risk"], found.Risk.Name(), "risk");
                Check.Equal((string)finding["category"], guard.GetCategories(Heads.Prompt)[found.Category], "category");
                Near(finding["probability"], found.Probability, "probability");
                Check.Equal((string)finding["rule"], stream.GetRule(), "rule");
            };
        }

        private Action Compared(GuardStream stream, Update update, Json expect)
        {
            return () =>
            {
                Check.Equal((string)expect["decision"], Lower(update.Decision), "decision");
                Check.Equal(Whole(expect["horizon"]), update.Horizon, "horizon");
                Check.Equal(Whole(expect["horizon_tokens"]), update.HorizonTokens, "horizon_tokens");
                Check.Equal(Whole(expect["received"]), update.Received, "received");
                Check.Equal(Whole(expect["excess"]), update.Excess, "excess");
                Check.Equal(Whole(expect["final_tokens"]), update.FinalTokens, "final_tokens");
                Check.Equal(Whole(expect["void_from"]), update.VoidFrom, "void_from");
                Check.Equal(expect["violation"] != null, update.Violation.HasValue, "there is a violation");
                if (update.Violation.HasValue)
                    Compare(update.Violation.Value, (Json)expect["violation"], stream.GetRule());

                var flags = (object[])expect["flags"];
                Violation[] flagged = stream.GetFlags();
                Check.Equal(flags.Length, update.FlagCount, "flag count");
                Check.Equal(flags.Length, flagged.Length, "flags");
                for (int index = 0; index < flags.Length; index++)
                    Compare(flagged[index], (Json)flags[index], stream.GetFlagRule(index));

                CompareOpinions(stream, update, expect);
                var wanted = (object[])expect["tokens"];
                TokenVerdict[] tokens = stream.GetTokens();
                Check.Equal(wanted.Length, update.TokenCount, "token count");
                Check.Equal(wanted.Length, tokens.Length, "tokens");
                for (int index = 0; index < tokens.Length; index++)
                    Compare(tokens[index], (Json)wanted[index]);
            };
        }

        private static void CompareOpinions(GuardStream stream, Update update, Json expect)
        {
            object[] wanted = expect.ContainsKey("opinions") ? (object[])expect["opinions"] : new object[0];
            Opinion[] opinions = stream.GetOpinions();
            Check.Equal(wanted.Length, update.OpinionCount, "opinion count");
            Check.Equal(wanted.Length, opinions.Length, "opinions");
            for (int index = 0; index < opinions.Length; index++)
            {
                var one = (Json)wanted[index];
                Check.Equal((string)one["trigger"], Lower(opinions[index].Trigger), "trigger");
                Check.Equal((string)one["outcome"], Lower(opinions[index].Outcome), "outcome");
                Check.Equal((string)one["channel"], Lower(opinions[index].Channel), "channel");
                Check.Equal(Whole(one["byte_start"]), opinions[index].Bytes.Start, "byte_start");
                Check.Equal(Whole(one["byte_end"]), opinions[index].Bytes.End, "byte_end");
                Check.Equal(Whole(one["first_token"]), opinions[index].FirstToken, "first_token");
                Check.Equal(Whole(one["confirming_token"]), opinions[index].ConfirmingToken, "confirming_token");
                Check.Equal(one.ContainsKey("error"), !opinions[index].Risk.HasValue, "it could be had");
                if (one.ContainsKey("error"))
                {
                    var error = Check.Throws<QwenguardException>(() => stream.GetOpinionAnnotation(index));
                    Check.Equal((string)((Json)one["error"])["message"], error.Message, "message");
                }
                if (opinions[index].Risk.HasValue)
                {
                    Check.Equal((string)one["risk"], opinions[index].Risk.Value.ToString(), "risk");
                    Check.Equal(opinions[index].Risk.Value, stream.GetOpinionAnnotation(index).Risk, "annotation");
                    for (int level = 0; level < 3; level++)
                        Check.That(Math.Abs(Convert.ToDouble(((object[])one["risk_probs"])[level])
                            - opinions[index].GetProbability((Risk)level)) < 1e-3, "risk_probs");
                }
            }
        }

        private void Compare(TokenVerdict token, Json expect)
        {
            Check.Equal(Whole(expect["index"]), token.Index, "index");
            Check.Equal(Whole(expect["id"]), token.Id, "id");
            Check.Equal(Whole(expect["byte_start"]), token.Bytes.Start, "byte_start");
            Check.Equal(Whole(expect["byte_end"]), token.Bytes.End, "byte_end");
            Check.Equal((string)expect["channel"], Lower(token.Channel), "channel");
            Check.Equal((bool)expect["final"], token.IsFinal, "final");
            Compare(token.Verdict, (Json)expect["verdict"], Heads.Answer);
        }

        private void Compare(Violation violation, Json expect, string rule)
        {
            Check.Equal((string)expect["action"], Lower(violation.Action), "action");
            Check.Equal((string)expect["channel"], Lower(violation.Channel), "channel");
            Check.Equal(Whole(expect["byte_start"]), violation.Bytes.Start, "byte_start");
            Check.Equal(Whole(expect["byte_end"]), violation.Bytes.End, "byte_end");
            Check.Equal(Whole(expect["first_token"]), violation.FirstToken, "first_token");
            Check.Equal(Whole(expect["confirming_token"]), violation.ConfirmingToken, "confirming_token");
            Check.Equal((string)expect["risk"], violation.Risk.Name(), "risk");
            Check.Equal((string)expect["category"], guard.GetCategories(Heads.Answer)[violation.Category], "category");
            Near(expect["probability"], violation.Probability, "probability");
            Check.Equal((string)expect["rule"], rule, "rule");
        }

        private void Compare(Verdict verdict, Json expect, Heads heads)
        {
            Check.Equal((string)expect["risk"], verdict.Risk.Name(), "risk");
            Check.Equal(
                (string)expect["category"],
                verdict.Category.HasValue ? guard.GetCategories(heads)[verdict.Category.Value] : null, "category");
            var risks = (object[])expect["risk_probs"];
            Check.Equal(3, risks.Length, "risk_probs");
            for (int index = 0; index < risks.Length; index++)
                Near(risks[index], verdict.GetProbability((Risk)index), "risk_probs");
            var categories = (object[])expect["category_probs"];
            float[] found = verdict.GetCategoryProbabilities();
            Check.Equal(categories.Length, found.Length, "category_probs");
            for (int index = 0; index < found.Length; index++)
                Near(categories[index], found[index], "category_probs");
        }

        private GuardStream StreamOf(Json step)
        {
            return streams[step.ContainsKey("stream") ? (int)step["stream"] : 0];
        }

        private static List<Json> Calls(Json step)
        {
            return ((object[])step["calls"]).Cast<Json>().ToList();
        }

        private static IEnumerable<Message> Messages(Json step)
        {
            return ((object[])step["messages"]).Cast<Json>()
                .Select(message => new Message((string)message["role"], (string)message["content"]));
        }

        private static uint[] Ids(Json step)
        {
            return ((object[])step["ids"]).Select(id => checked((uint)Whole(id))).ToArray();
        }

        private static byte[] Bytes(Json step)
        {
            byte[] piece = step.ContainsKey("hex") ? Hex((string)step["hex"]) : Encoding.UTF8.GetBytes((string)step["text"]);
            int repeat = step.ContainsKey("repeat") ? (int)step["repeat"] : 1;
            return Enumerable.Repeat(piece, repeat).SelectMany(bytes => bytes).ToArray();
        }

        private static byte[] Hex(string digits)
        {
            return Enumerable.Range(0, digits.Length / 2)
                .Select(index => Convert.ToByte(digits.Substring(2 * index, 2), 16)).ToArray();
        }

        private static long Whole(object number)
        {
            Check.That(number is int || number is long, number + " is a whole number");
            return Convert.ToInt64(number);
        }

        private static void Near(object wanted, float found, string what)
        {
            double difference = Math.Abs(Convert.ToDouble(wanted) - found);
            if (!(difference <= (Samples.Provider == "" ? 1e-3 : 2e-2)))
                throw new CheckFailed(what + " is " + found + ", not " + wanted);
        }

        private static string Lower(Enum value)
        {
            return value.ToString().ToLowerInvariant();
        }
    }
}
