//! [`choices!`](crate::choices!): an enum whose values are words of the configuration.

/// Declares an enum of words, such as a log level, with `ALL`, `as_str`, `Display` and `Decode`.
///
/// ```
/// blameio_config::choices! {
///     /// How bodies are compressed.
///     pub enum Compression {
///         /// Not at all.
///         None = "none",
///         /// With gzip.
///         Gzip = "gzip",
///     }
/// }
/// assert_eq!(Compression::Gzip.to_string(), "gzip");
/// ```
#[macro_export]
macro_rules! choices {
    ($(#[$meta:meta])* $vis:vis enum $enum:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $enum {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $enum {
            /// All values, in the order of their declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the configuration.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl ::core::fmt::Display for $enum {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::Decode for $enum {
            const EXPECTED: &'static str = concat!($("|", $word),+).split_at(1).1;
            const TEXT: bool = true;

            fn decode(
                node: &$crate::Node,
                path: &$crate::Path,
                out: &mut $crate::Diagnostics,
            ) -> ::core::option::Option<Self> {
                let ::core::option::Option::Some(text) = node.string() else {
                    out.wrong_type(node, path, "string");
                    return ::core::option::Option::None;
                };
                let found = Self::ALL.iter().copied().find(|choice| choice.as_str() == text);
                if found.is_none() {
                    let words = Self::ALL.iter().map(|choice| choice.as_str());
                    let message = ::std::format!("'{}' has an unknown value", path.last());
                    let help = $crate::suggestion(text, words).unwrap_or_default();
                    out.error_with_help(&node.position, path, message, help);
                }
                found
            }
        }
    };
}
