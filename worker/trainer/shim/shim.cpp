// What tch has no binding for: the gradient of a convolution by itself; streams, memory and graphs of a GPU.
// Tensors are tch's: pointers to at::Tensor. Nothing is thrown across the border: each function gives 0, or 1 after
// writing what went wrong to `problem`, which ends with a zero.

#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution_backward.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <tuple>
#include <utility>

// As CUDA's runtime has it.
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };

namespace {

template <class Work>
int tell(char* problem, size_t problem_size, const Work& work) {
    try {
        work();
        return 0;
    } catch (const std::exception& error) {
        std::strncpy(problem, error.what(), problem_size - 1);
        problem[problem_size - 1] = 0;
        return 1;
    }
}

c10::Device gpu(int64_t index) { return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}; }

c10::Stream stream(int64_t device, int64_t id) { return c10::Stream(c10::Stream::UNSAFE, gpu(device), id); }

c10::impl::VirtualGuardImpl guard() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA); }

// at::cuda::CUDAGraph lies in libtorch_cuda, which is loaded only where there is a GPU; its header wants CUDA's. What is
// used of it is found by name: the members of a class are functions whose first argument is the object.
class Graph {
   public:
    Graph() { find<void (*)(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(object, false); }
    ~Graph() {
        if (auto* symbol = dlsym(RTLD_DEFAULT, "_ZN2at4cuda9CUDAGraphD1Ev")) reinterpret_cast<void (*)(void*)>(symbol)(object);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void begin() {
        using Begin = void (*)(void*, std::pair<unsigned long long, unsigned long long>, cudaStreamCaptureMode);
        // Other threads may go on asking things of CUDA.
        find<Begin>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")(
            object, {0, 0}, cudaStreamCaptureModeThreadLocal);
    }
    void end() { find<void (*)(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(object); }
    void replay() { find<void (*)(void*)>("_ZN2at4cuda9CUDAGraph6replayEv")(object); }

   private:
    template <class Function>
    static Function find(const char* name) {
        void* symbol = dlsym(RTLD_DEFAULT, name);
        TORCH_CHECK(symbol != nullptr, "this libtorch has no CUDA graphs as libtorch 2.11 has them");
        return reinterpret_cast<Function>(symbol);
    }
    // It has 104 bytes in libtorch 2.11.
    alignas(64) char object[1024] = {};
};

}  // namespace

extern "C" {

// The gradients of a convolution's input (null unless wanted) and weight, as new tensors.
int alpharho_convolution_backward(const at::Tensor* gradient, const at::Tensor* input, const at::Tensor* weight,
                                  int64_t stride, int64_t padding, int64_t groups, int wants_input,
                                  at::Tensor** input_gradient, at::Tensor** weight_gradient, char* problem,
                                  size_t problem_size) {
    return tell(problem, problem_size, [&] {
        const std::array<int64_t, 2> strides{stride, stride}, paddings{padding, padding}, ones{1, 1}, zeros{0, 0};
        auto result = at::convolution_backward(*gradient, *input, *weight, c10::nullopt, strides, paddings, ones, false,
                                               zeros, groups, {wants_input != 0, true, false});
        *input_gradient = wants_input != 0 ? new at::Tensor(std::move(std::get<0>(result))) : nullptr;
        *weight_gradient = new at::Tensor(std::move(std::get<1>(result)));
    });
}

// A stream out of libtorch's pool. It is never given back.
int alpharho_stream_new(int64_t device, int64_t* id, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { *id = guard().getStreamFromGlobalPool(gpu(device), false).id(); });
}

// From here on this thread's work on the device goes to that stream; `before` is the one that it went to.
int alpharho_stream_enter(int64_t device, int64_t id, int64_t* before, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] {
        guard().setDevice(gpu(device));
        *before = guard().exchangeStream(stream(device, id)).id();
    });
}

// What `id` is given from now on begins when `other` has done what it was given so far.
int alpharho_stream_wait(int64_t device, int64_t id, int64_t other, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] {
        c10::Event event(c10::DeviceType::CUDA);
        event.record(stream(device, other));
        event.block(stream(device, id));
    });
}

// The tensor's memory is not given away before the stream has done what it was given so far.
int alpharho_stream_uses(int64_t device, int64_t id, const at::Tensor* tensor, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { tensor->record_stream(stream(device, id)); });
}

// A copy in memory that stays where it is, which a GPU can copy from while both sides go on.
int alpharho_pin(const at::Tensor* tensor, at::Tensor** pinned, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { *pinned = new at::Tensor(tensor->pin_memory()); });
}

// When the stream has done what it was given so far, the event has happened.
int alpharho_event_new(int64_t device, int64_t id, c10::Event** event, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] {
        auto made = std::make_unique<c10::Event>(c10::DeviceType::CUDA);
        made->record(stream(device, id));
        *event = made.release();
    });
}

int alpharho_event_wait(const c10::Event* event, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { event->synchronize(); });
}

void alpharho_event_delete(c10::Event* event) { delete event; }

// Bytes that the device has left, and those that libtorch's allocator holds, in use or not.
int alpharho_memory(int64_t device, uint64_t* left, uint64_t* held, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] {
        auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        *left = allocator->getMemoryInfo(gpu(device).index()).first;
        const auto stats = allocator->getDeviceStats(gpu(device).index());
        *held = static_cast<uint64_t>(stats.reserved_bytes[0].current);
    });
}

// Gives back what the allocator holds and nobody uses.
int alpharho_memory_trim(char* problem, size_t problem_size) {
    return tell(problem, problem_size, [] { c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache(); });
}

// From here to `alpharho_graph_end` what goes to this thread's stream is not done, but kept.
int alpharho_graph_begin(Graph** graph, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] {
        auto made = std::make_unique<Graph>();
        made->begin();
        *graph = made.release();
    });
}

int alpharho_graph_end(Graph* graph, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { graph->end(); });
}

// Does what was kept, on this thread's stream.
int alpharho_graph_replay(Graph* graph, char* problem, size_t problem_size) {
    return tell(problem, problem_size, [&] { graph->replay(); });
}

void alpharho_graph_delete(Graph* graph) { delete graph; }
}
