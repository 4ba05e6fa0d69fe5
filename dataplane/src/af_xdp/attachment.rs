//! Where on its way into the kernel a frame meets the steering program.

/// How the program is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attachment {
    /// In the driver where it can, else in the kernel's generic path.
    #[default]
    Auto,
    /// In the driver, or fail.
    Native,
    /// In the kernel's generic path.
    Generic,
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
