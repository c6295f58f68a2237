//! The one place where the CPU is asked what it can do.

use std::sync::OnceLock;

use super::{Kernel, Simd, scalar::Scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// A set of instructions that kernels run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Any CPU.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

/// What `EDGELING_CPU` asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    #[error("EDGELING_CPU: expected one of {expected}, found {found:?}")]
    Unknown { found: String, expected: String },
    #[error("EDGELING_CPU={tier}: this CPU lacks it; it has {available}")]
    Unavailable { tier: &'static str, available: String },
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The name that `EDGELING_CPU` knows the tier by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this CPU has the tier's instructions.
    pub fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The tiers of this CPU, the plainest first.
    pub fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|t| t.available())
    }

    /// The best tier of this CPU, or the one that the environment variable `EDGELING_CPU` names.
    ///
    /// # Errors
    /// The variable names no tier, or one that this CPU lacks.
    pub fn detect() -> Result<Self, TierError> {
        static TIER: OnceLock<Result<Tier, TierError>> = OnceLock::new();
        TIER.get_or_init(|| match std::env::var("EDGELING_CPU") {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => Ok(Self::all_available().last().unwrap_or(Self::Scalar)),
        })
        .clone()
    }

    fn named(name: &str) -> Result<Self, TierError> {
        let tier = Self::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| TierError::Unknown { found: name.to_owned(), expected: names(Self::ALL.into_iter()) })?;
        if tier.available() {
            Ok(tier)
        } else {
            Err(TierError::Unavailable { tier: tier.name(), available: names(Self::all_available()) })
        }
    }

    /// Whether the tier can multiply BF16 pairs here.
    pub fn has_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512bf16"),
            _ => true,
        }
    }

    /// Runs `kernel` with this tier's instructions.
    ///
    /// # Safety
    /// The tier is available on this CPU, and the kernel's pointers are as its documentation says.
    #[inline]
    pub unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => Avx512::run(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => Avx2::run(kernel),
                _ => Scalar::run(kernel),
            }
        }
    }
}

impl Tier {
    /// As [`Tier::run`], with the instructions for BF16 pairs.
    ///
    /// # Safety
    /// As [`Tier::run`]; the tier has BF16.
    #[inline]
    pub unsafe fn run_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => Avx512::run_bf16(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => Avx2::run_bf16(kernel),
                _ => Scalar::run_bf16(kernel),
            }
        }
    }
}

fn names(tiers: impl Iterator<Item = Tier>) -> String {
    tiers.map(Tier::name).collect::<Vec<_>>().join(", ")
}
