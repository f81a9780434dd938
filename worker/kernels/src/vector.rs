//! One piece of code, compiled for each instruction set that matters and chosen when the program runs.

/// Runs `$body`, a call of an `#[inline(always)]` function whose first parameter is a `const FUSED: bool` (whether the
/// processor multiplies and adds in one), with the widest vectors there are.
macro_rules! with_widest_vectors {
    ($name:ident ( $($argument:ident : $type:ty),* $(,)? )) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn widest($($argument: $type),*) {
                    $name::<true>($($argument),*);
                }
                #[expect(unsafe_code, reason = "AVX-512")]
                // SAFETY: the processor was just asked for it; all that have it for servers have VL and DQ too.
                return unsafe { widest($($argument),*) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($argument: $type),*) {
                    $name::<true>($($argument),*);
                }
                #[expect(unsafe_code, reason = "AVX2")]
                // SAFETY: the processor was just asked for it.
                return unsafe { wide($($argument),*) };
            }
        }
        $name::<false>($($argument),*)
    }};
}
pub(crate) use with_widest_vectors;

/// `a · b + c`, rounded once where the processor can.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}
