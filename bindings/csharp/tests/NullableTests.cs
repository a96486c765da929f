using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;

namespace Qwenguard.Tests
{
    /// <summary>What programs with nullable references are told: nothing of the public interface is null but these.</summary>
    public static class NullableTests
    {
        private static readonly string[] MaybeNull =
        {
            "Annotation.CategoryProbabilities", "AnnotationFinding.Category", "Completion.Stream",
            "GuardOptions.ConfigToml", "GuardOptions.RuntimeLibrary", "Judgement.Finding", "Names.Name(risk)",
            "Names.Name(status)",
        };

        private static readonly string[] AllowNull =
        {
            "Annotation.GetReward: thinking", "CompletionQueue.Annotate: options", "Guard.Annotate: options",
            "Guard.AnnotateAll: options", "Guard.AnnotateAsync: options", "Guard.GetProviders: options",
            "Guard.Open: options", "Guard.OpenNano: options", "Guard.OpenNanoGen: options", "Guard.OpenStream: policyToml",
            "GuardOptions.ConfigToml", "GuardOptions.RuntimeLibrary",
        };

        private static IEnumerable<Type> Types => typeof(Guard).Assembly.GetExportedTypes();

        public static void EveryTypeIsAnnotated()
        {
            foreach (Type type in Types.Where(type => !type.IsEnum))
            {
                CustomAttributeData context = Attributes(type, "NullableContextAttribute").SingleOrDefault();
                Check.That(context != null, type.Name + " is annotated");
                Check.Equal((byte)1, (byte)context.ConstructorArguments.Single().Value, type.Name);
            }
        }

        public static void WhatMayBeNullIsMarked()
        {
            var maybe = Properties().Where(property => Has(property, "MaybeNullAttribute"))
                .Select(property => property.DeclaringType.Name + "." + property.Name)
                .Concat(Methods().Where(method => Has(method.ReturnParameter, "MaybeNullAttribute"))
                    .Select(method => method.DeclaringType.Name + "." + method.Name + "("
                        + string.Join(", ", method.GetParameters().Select(parameter => parameter.Name)) + ")"));
            Check.Same(Sorted(MaybeNull), Sorted(maybe), "may be null");
            var allowed = Properties().Where(property => Has(property, "AllowNullAttribute"))
                .Select(property => property.DeclaringType.Name + "." + property.Name)
                .Concat(Parameters().Where(parameter => Has(parameter, "AllowNullAttribute")).Select(Name));
            Check.Same(Sorted(AllowNull), Sorted(allowed), "null is allowed");
        }

        public static void NullThatNeedNotBeGivenIsMarked()
        {
            var defaults = Parameters()
                .Where(parameter => parameter.HasDefaultValue && parameter.DefaultValue == null
                    && !parameter.ParameterType.IsValueType);
            foreach (ParameterInfo parameter in defaults)
                Check.That(Has(parameter, "AllowNullAttribute"), Name(parameter));
        }

        public static void WhatIsMarkedTakesNull()
        {
            var options = new GuardOptions { Threads = 1, CacheMib = 64, ConfigToml = null, RuntimeLibrary = null };
            Check.That(options.ConfigToml == null && options.RuntimeLibrary == null, "nothing is set");
            using (Guard.OpenNano(null))
            using (Guard.OpenNanoGen(null))
            using (Guard guard = Guard.OpenNano(options))
            using (guard.OpenStream(null))
            {
                Check.That(Guard.GetProviders(null).Length > 0, "providers");
                Message[] messages = { Message.User("Hello"), Message.Assistant("Hi.") };
                Annotation annotation = guard.Annotate(messages, null);
                Check.Equal(1, guard.AnnotateAll(new[] { messages }, null).Count, "annotations");
                Check.That(guard.AnnotateAsync(messages, null).Result.Risk == annotation.Risk, "the same");
                annotation.GetReward("", 0, null);
                using (var queue = new CompletionQueue())
                {
                    queue.Annotate(guard, messages, 1, null);
                    Check.That(queue.Wait().Single().Stream == null, "an annotation has no stream");
                }
                Check.That(annotation.Judgement.Finding == null, "nothing is found");
                Check.That(((Risk)77).Name() == null && ((Status)77).Name() == null, "no such names");
            }
        }

        public static void WhatIsNotMarkedRefusesNull()
        {
            using (Guard guard = Guard.OpenNano(new GuardOptions { Threads = 1, CacheMib = 64 }))
            using (GuardStream stream = guard.OpenStream())
            using (var queue = new CompletionQueue())
            {
                Check.Throws<ArgumentNullException>(() => Guard.Open(null));
                Check.Throws<ArgumentNullException>(() => guard.Encode(null));
                Check.Throws<ArgumentNullException>(() => guard.Annotate((IEnumerable<Message>)null));
                Check.Throws<ArgumentNullException>(() => guard.AnnotateAll(null));
                Check.Throws<ArgumentNullException>(() => stream.Prompt((IEnumerable<Message>)null));
                Check.Throws<ArgumentNullException>(() => stream.PushText((string)null));
                Check.Throws<ArgumentNullException>(() => stream.PushText((byte[])null));
                Check.Throws<ArgumentNullException>(() => stream.PushTokens((uint[])null));
                Check.Throws<ArgumentNullException>(() => GuardStream.CallAll((StreamCall[])null));
                Check.Throws<ArgumentNullException>(() => queue.Submit(null, 1));
                Check.Throws<ArgumentNullException>(() => StreamCall.Finish(null));
                Check.Throws<ArgumentNullException>(() => Message.User(null));
                Annotation annotation = guard.Annotate(Message.User("Hello"));
                Check.Throws<ArgumentNullException>(() => annotation.Judge(null));
                Check.Throws<ArgumentNullException>(() => annotation.GetReward(null));
            }
        }

        private static IEnumerable<PropertyInfo> Properties()
        {
            return Types.SelectMany(type => type.GetProperties(
                BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly));
        }

        private static IEnumerable<MethodInfo> Methods()
        {
            return Types.SelectMany(type => type.GetMethods(
                BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly));
        }

        private static IEnumerable<ParameterInfo> Parameters()
        {
            return Methods().Cast<MethodBase>()
                .Concat(Types.SelectMany(type => type.GetConstructors())).SelectMany(method => method.GetParameters());
        }

        private static string Name(ParameterInfo parameter)
        {
            return parameter.Member.DeclaringType.Name + "." + parameter.Member.Name + ": " + parameter.Name;
        }

        private static IEnumerable<CustomAttributeData> Attributes(MemberInfo of, string name)
        {
            return of.GetCustomAttributesData().Where(found => found.Constructor.DeclaringType.Name == name);
        }

        private static bool Has(MemberInfo member, string name)
        {
            return Attributes(member, name).Any();
        }

        private static bool Has(ParameterInfo parameter, string name)
        {
            return parameter.GetCustomAttributesData().Any(found => found.Constructor.DeclaringType.Name == name);
        }

        private static string[] Sorted(IEnumerable<string> names)
        {
            return names.Distinct().OrderBy(name => name, StringComparer.Ordinal).ToArray();
        }
    }
}
