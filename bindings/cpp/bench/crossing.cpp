// An empty push and a push of one token, through the C++ classes: see benches/crossing.py.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include <qwenguard.hpp>

namespace {

constexpr int calls = 10000;

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
    return std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

double empty_pushes(qwenguard::Stream &stream) {
    const Clock::time_point begin = Clock::now();
    for (int call = 0; call < calls; call++)
        stream.push_text("");
    return since(begin) / calls;
}

} // namespace

int main() {
    qwenguard::Options options;
    options.threads = 1;
    options.cache_mib = 64;
    const qwenguard::Guard guard = qwenguard::Guard::nano(options);
    const std::uint32_t token = guard.encode(" bread").at(0).id;
    qwenguard::Stream stream = guard.stream();
    stream.prompt({qwenguard::Message::user("How do I bake bread?")});

    std::vector<double> batches, pushes;
    empty_pushes(stream);
    for (int batch = 0; batch < 20; batch++)
        batches.push_back(empty_pushes(stream));
    for (int push = 0; push < 2500; push++) {
        if (push % 64 == 0)
            stream.truncate(0);
        const Clock::time_point begin = Clock::now();
        stream.push_tokens({token});
        if (push >= 500)
            pushes.push_back(since(begin));
    }
    std::printf("{\"language\":\"c++\",\"empty_push_ns\":%.1f,\"token_push_us\":%.2f}\n", median(batches),
                median(pushes) / 1e3);
}
