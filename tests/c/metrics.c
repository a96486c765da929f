/* Verdicts by channel, level and category; metrics with the guard's name. */
#include "check.h"

static const qg_verdict_count *find(const qg_verdict_count *counts, size_t count, int32_t channel, int32_t risk) {
    size_t index;
    for (index = 0; index < count; index++)
        if (counts[index].channel == channel && counts[index].risk == risk)
            return &counts[index];
    return NULL;
}

int main(void) {
    static const char toml[] = "name = 'kitchen'";
    static const char sample[] = "qwenguard_stops_total{guard=\"kitchen\",channel=\"answer\",level=\"Unsafe\",category=\"Violent\"} 1\n";
    qg_guard_options options;
    qg_guard *guard = NULL;
    qg_stream *stream;
    qg_verdict_count counts[64], one;
    const qg_verdict_count *own;
    const char *name = NULL;
    qg_text *metrics = NULL;
    size_t count = 99, all;
    qg_update update;
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.threads = 1;
    options.cache_mib = 64;
    options.config_toml = toml;
    options.config_toml_length = strlen(toml);
    WORKS(qg_guard_open_nano(&options, &guard, &error));
    WORKS(qg_guard_verdict_counts(guard, NULL, 0, &count, &error));
    CHECK(count == 0);
    stream = open_stream(guard);
    prompt(stream, QUESTION);
    push(stream, ANSWER, strlen(ANSWER));
    WORKS(qg_stream_finish(stream, &update, &error));
    CHECK(update.decision == QG_DECISION_STOP);
    WORKS(qg_guard_verdict_counts(guard, counts, 64, &all, &error));
    CHECK(all > 2 && all < 64);
    own = find(counts, all, QG_VERDICT_CHANNEL_PROMPT, QG_RISK_SAFE);
    CHECK(own && own->category == -1 && own->verdicts == 1 && own->stops == 0 && own->flags == 0 && own->reserved == 0);
    own = find(counts, all, QG_VERDICT_CHANNEL_ANSWER, QG_RISK_UNSAFE);
    CHECK(own && own->verdicts > 1);
    WORKS(qg_guard_category_name(guard, QG_HEADS_ANSWER, (uint32_t)update.violation.category, &name, &error));
    CHECK(strcmp(name, "Violent") == 0);
    memset(&one, 0, sizeof one);
    WORKS(qg_guard_verdict_counts(guard, &one, 1, &count, &error));
    CHECK(count == all && memcmp(&one, &counts[0], sizeof one) == 0);
    WORKS(qg_guard_metrics(guard, &metrics, &error));
    CHECK(strstr(qg_text_data(metrics), sample) != NULL);
    qg_text_free(metrics);
    FAILS(qg_guard_verdict_counts(NULL, counts, 64, &count, &error), QG_ERROR_NULL, "argument guard");
    FAILS(qg_guard_verdict_counts(guard, NULL, 1, &count, &error), QG_ERROR_NULL, "argument counts");
    FAILS(qg_guard_verdict_counts(guard, counts, 64, NULL, &error), QG_ERROR_NULL, "argument count");
    qg_stream_free(stream);
    qg_guard_free(guard);
    return 0;
}
