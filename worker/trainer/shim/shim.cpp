// What tch has no binding for: the gradient of a convolution by itself.
// Tensors are tch's: pointers to at::Tensor. Nothing is thrown across the border.

#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution_backward.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <tuple>

extern "C" {

// The gradients of a convolution's input (null unless wanted) and weight, as new tensors. What went wrong, if
// anything, is written to `problem` and ends with a zero.
int alpharho_convolution_backward(const at::Tensor* gradient, const at::Tensor* input, const at::Tensor* weight,
                                  int64_t stride, int64_t padding, int64_t groups, int wants_input,
                                  at::Tensor** input_gradient, at::Tensor** weight_gradient, char* problem,
                                  size_t problem_size) {
    try {
        const std::array<int64_t, 2> strides{stride, stride}, paddings{padding, padding}, ones{1, 1}, zeros{0, 0};
        auto result = at::convolution_backward(*gradient, *input, *weight, c10::nullopt, strides, paddings, ones, false,
                                               zeros, groups, {wants_input != 0, true, false});
        *input_gradient = wants_input != 0 ? new at::Tensor(std::move(std::get<0>(result))) : nullptr;
        *weight_gradient = new at::Tensor(std::move(std::get<1>(result)));
        return 0;
    } catch (const std::exception& error) {
        std::strncpy(problem, error.what(), problem_size - 1);
        problem[problem_size - 1] = 0;
        return 1;
    }
}
}
