//! Loops compiled twice: for every x86-64, and for processors with AVX2.

/// Runs `kernel` compiled for AVX2 where the processor has it. The results are the same bits: no operation is fused.
///
/// Worth it for loops over cells that are not inlined further down. Only what is inlined is compiled twice: `kernel` is a
/// closure marked `#[inline(always)]`, as is what it calls.
#[inline(always)]
pub fn vectorized<R>(kernel: impl FnOnce() -> R) -> R {
    if has_avx2() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has been asked.
        return unsafe { with_avx2(kernel) };
    }
    kernel()
}

/// Whether loops may be compiled for AVX2.
#[inline(always)]
pub fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}
