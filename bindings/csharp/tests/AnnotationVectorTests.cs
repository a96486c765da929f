using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Web.Script.Serialization;

namespace Qwenguard.Tests
{
    using Json = Dictionary<string, object>;

    /// <summary>tests/vectors/annotations.json: every conversation alone, together with the others of its group, and through a
    /// queue.</summary>
    public static class AnnotationVectorTests
    {
        private static readonly JavaScriptSerializer Reader = new JavaScriptSerializer { MaxJsonLength = int.MaxValue };

        public static void WhatFitsTheContext()
        {
            Run(overflow => overflow == TextOverflow.Refuse, 30);
        }

        public static void WhatIsLonger()
        {
            Run(overflow => overflow != TextOverflow.Refuse, 3);
        }

        private static void Run(Func<TextOverflow, bool> wanted, int atLeast)
        {
            var vectors = (Json)Reader.DeserializeObject(File.ReadAllText("tests/vectors/annotations.json"));
            Check.Equal(1, (int)vectors["format"], "format");
            int cases = 0;
            foreach (Json group in ((object[])vectors["groups"]).Cast<Json>()
                .Where(group => wanted(Named<TextOverflow>(group["overflow"]))))
                using (Guard guard = Open((string)group["guard"], (string)vectors["config"]))
                {
                    var categories = (Json)group["categories"];
                    Check.That(
                        ((object[])categories["prompt"]).Cast<string>().SequenceEqual(guard.GetCategories(Heads.Prompt))
                        && ((object[])categories["response"]).Cast<string>().SequenceEqual(guard.GetCategories(Heads.Answer)),
                        "categories");
                    Json[] all = ((object[])group["cases"]).Cast<Json>().ToArray();
                    var options = new AnnotateOptions
                    {
                        Decoding = Named<Decoding>(group["decoding"]), Overflow = Named<TextOverflow>(group["overflow"]),
                    };
                    Compare(all, all.Select(one => Alone(guard, one, options)).ToArray(), "alone");
                    cases += all.Length;
                    if (options.Overflow != TextOverflow.Refuse)
                        continue;
                    Compare(all, guard.AnnotateAll(all.Select(Messages), options).Select(Answer.Of).ToArray(), "together");
                    Compare(all, Queued(guard, all, options), "queued");
                }
            Check.That(cases >= atLeast, "there are cases");
        }

        private static Guard Open(string bundle, string config)
        {
            var options = new GuardOptions { ConfigToml = config };
            switch (bundle)
            {
                case "nano": return Guard.OpenNano(options);
                case "nano-gen": return Guard.OpenNanoGen(options);
                default: return Guard.Open(bundle, options);
            }
        }

        private static T Named<T>(object name)
        {
            return (T)Enum.Parse(typeof(T), ((string)name).Replace("_", ""), true);
        }

        private static IEnumerable<Message> Messages(Json one)
        {
            Message[] messages = ((object[])one["messages"]).Cast<Json>()
                .Select(message => new Message((string)message["role"], (string)message["content"])).ToArray();
            if (one.ContainsKey("repeat"))
            {
                Message last = messages.Last();
                string content = string.Concat(Enumerable.Repeat(last.Content, (int)one["repeat"]));
                messages[messages.Length - 1] = new Message(last.Role, content);
            }
            return messages;
        }

        private sealed class Answer
        {
            internal Annotation Annotation;
            internal Status Status;
            internal string Message;

            internal static Answer Of(Reply reply)
            {
                return reply.Status == Status.Ok ? new Answer { Annotation = reply.GetAnnotation() }
                    : new Answer { Status = reply.Status, Message = reply.Message };
            }
        }

        private static Answer Alone(Guard guard, Json one, AnnotateOptions options)
        {
            try
            {
                return new Answer { Annotation = guard.Annotate(Messages(one), options) };
            }
            catch (QwenguardException error)
            {
                return new Answer { Status = error.Status, Message = error.Message };
            }
        }

        private static Answer[] Queued(Guard guard, Json[] all, AnnotateOptions options)
        {
            var answers = new Answer[all.Length];
            using (var queue = new CompletionQueue())
            {
                for (int index = 0; index < all.Length; index++)
                    try
                    {
                        queue.Annotate(guard, Messages(all[index]), (ulong)index, options);
                    }
                    catch (QwenguardException error)
                    {
                        answers[index] = new Answer { Status = error.Status, Message = error.Message };
                    }
                while (queue.Count > 0)
                    foreach (Completion done in queue.Wait())
                    {
                        Check.That(done.Stream == null, "an annotation has no stream");
                        answers[done.Tag] = Answer.Of(done.Reply);
                    }
            }
            return answers;
        }

        private static void Compare(Json[] all, Answer[] answers, string way)
        {
            Check.Equal(all.Length, answers.Length, way);
            for (int index = 0; index < all.Length; index++)
                try
                {
                    Compare(all[index], answers, index);
                }
                catch (Exception error)
                {
                    throw new CheckFailed(all[index]["name"] + ", " + way + ": " + error.Message);
                }
        }

        private static void Compare(Json one, Answer[] answers, int index)
        {
            var expect = (Json)one["expect"];
            Annotation found = answers[index].Annotation;
            if (found == null)
            {
                Failure(expect, answers[index].Status, answers[index].Message);
                return;
            }
            Check.That(!expect.ContainsKey("error"), "it fails");
            Check.Equal((string)expect["mode"], found.Mode.ToString().ToLowerInvariant(), "mode");
            Check.Equal((string)expect["risk"], found.Risk.Name(), "risk");
            float?[] levels = { found.GetProbability(Risk.Safe), found.GetProbability(Risk.Controversial),
                found.GetProbability(Risk.Unsafe) };
            Near(expect["risk_probs"], levels[0] == null ? null : levels.Select(level => level.Value), "risk_probs");
            Check.That(((object[])expect["categories"]).Cast<string>().SequenceEqual(found.Categories), "categories");
            Near(expect["category_probs"], found.CategoryProbabilities?.Select(pair => pair.Value), "category_probs");
            Near(expect["none_prob"], found.NoneProbability, "none_prob");
            Check.Equal((bool?)expect["refusal"], found.Refusal, "refusal");
            Near(expect["refusal_prob"], found.RefusalProbability, "refusal_prob");
            Check.Equal((bool)expect["parsed"], found.IsParsed, "parsed");
            Check.Equal((string)expect["answer"], found.Answer, "answer");
            Check.Equal((bool)expect["cut"], found.IsCut, "cut");
            Check.Equal(Convert.ToInt64(((object[])expect["judged"])[0]), found.Judged.Start, "judged");
            Check.Equal(Convert.ToInt64(((object[])expect["judged"])[1]), found.Judged.End, "judged");
            Check.Equal((int)expect["windows"], found.Windows, "windows");
            Check.Equal((int)expect["ids"], found.IdCount, "ids");
            Compare(expect, found.Judgement);
            var line = (Json)Reader.DeserializeObject(found.GetJson());
            Check.Equal((string)expect["mode"], (string)line["mode"], "mode of the line");
            Judgements(one, found, (object[])expect["judgements"]);
            Rewards(one, answers, found, (object[])expect["rewards"]);
        }

        private static void Judgements(Json one, Annotation annotation, object[] wanted)
        {
            object[] policies = one.ContainsKey("policies") ? (object[])one["policies"] : new object[0];
            Check.Equal(wanted.Length, policies.Length, "judgements");
            for (int index = 0; index < wanted.Length; index++)
            {
                var expect = (Json)wanted[index];
                Attempt(expect, () => Compare(expect, annotation.Judge((string)policies[index])));
            }
        }

        private static void Rewards(Json one, Answer[] answers, Annotation annotation, object[] wanted)
        {
            object[] rewards = one.ContainsKey("rewards") ? (object[])one["rewards"] : new object[0];
            Check.Equal(wanted.Length, rewards.Length, "rewards");
            for (int index = 0; index < wanted.Length; index++)
            {
                Json expect = (Json)wanted[index], step = (Json)rewards[index];
                string rule = step.ContainsKey("rule") ? (string)step["rule"] : "";
                double helpfulness = step.ContainsKey("helpfulness") ? Convert.ToDouble(step["helpfulness"]) : 0;
                Annotation thinking = step.ContainsKey("thinking") ? answers[(int)step["thinking"]].Annotation : null;
                Attempt(expect, () =>
                {
                    double reward = annotation.GetReward(rule, helpfulness, thinking);
                    Check.That(!expect.ContainsKey("error"), "it fails");
                    Check.Equal(Convert.ToDouble(expect["reward"]), reward, "reward");
                });
            }
        }

        private static void Attempt(Json expect, Action call)
        {
            try
            {
                call();
            }
            catch (QwenguardException error)
            {
                Failure(expect, error.Status, error.Message);
            }
        }

        private static void Failure(Json expect, Status status, string message)
        {
            if (!expect.ContainsKey("error"))
                throw new CheckFailed("it failed: " + message);
            var error = (Json)expect["error"];
            Check.Equal((string)error["status"], status.Name(), "status");
            Check.Equal((string)error["message"], message, "message");
        }

        private static void Compare(Json expect, Judgement found)
        {
            Check.That(!expect.ContainsKey("error"), "it fails");
            Check.Equal((string)expect["decision"], found.Decision.ToString().ToLowerInvariant(), "decision");
            var finding = (Json)expect["finding"];
            Check.Equal(finding != null, found.Finding != null, "there is a finding");
            if (finding == null)
                return;
            Check.Equal((string)finding["action"], found.Finding.Action.ToString().ToLowerInvariant(), "action");
            Check.Equal((string)finding["risk"], found.Finding.Risk.Name(), "risk");
            Check.Equal((string)finding["category"], found.Finding.Category, "category");
            Near(finding["probability"], found.Finding.Probability, "probability");
            Check.Equal((string)finding["rule"], found.Finding.Rule, "rule");
        }

        private static void Near(object wanted, IEnumerable<float> found, string what)
        {
            Check.Equal(wanted == null, found == null, what + " are not there");
            if (found == null)
                return;
            object[] all = (object[])wanted;
            float[] values = found.ToArray();
            Check.Equal(all.Length, values.Length, what);
            for (int index = 0; index < all.Length; index++)
                Near(all[index], values[index], what);
        }

        private static void Near(object wanted, float? found, string what)
        {
            Check.Equal(wanted == null, found == null, what + " is not there");
            if (found != null && !(Math.Abs(Convert.ToDouble(wanted) - found.Value) <= 1e-3))
                throw new CheckFailed(what + " is " + found + ", not " + wanted);
        }
    }
}
