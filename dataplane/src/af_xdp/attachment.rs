//! Where on its way into the kernel a frame meets the steering program.

/// How the program is to be attached: `interfaces[].xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else in the kernel's generic path.
    #[default]
    Auto,
    /// In the driver, or fail.
    Native,
    /// In the kernel's generic path.
    Generic,
}

impl XdpMode {
    /// The word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        }
    }
}

/// How the program was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the kernel's generic path, and why not in the driver.
    Generic {
        /// The reason.
        because: String,
    },
}

/// Why generic XDP is the better one with this driver, where there is a choice.
pub(super) fn better_generic(driver: &str) -> Option<&'static str> {
    (driver == "hv_netvsc").then_some(
        "hv_netvsc: what its virtual function receives (accelerated networking) would pass a native program by; xdp: native \
         takes native XDP all the same",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_driver_that_hands_packets_past_a_native_program_is_better_served_generic() {
        assert!(better_generic("hv_netvsc").is_some_and(|why| why.contains("accelerated networking")));
        assert_eq!(better_generic("mlx5_core").or(better_generic("veth")).or(better_generic("")), None);
    }
}
