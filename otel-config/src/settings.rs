//! `settings!`, from which each component declares its configuration. The code it generates is
//! thin: [`Fields`](crate::Fields) does the work.

/// Declares a settings struct with its defaults and docs.
///
/// ```
/// use std::time::Duration;
/// use blameio_config::{Decode, Diagnostics, Endpoint, Path, Secret, parse, settings};
///
/// settings! {
///     /// Serves the newest value of each series.
///     pub struct PrometheusSettings {
///         /// Address and port to listen on.
///         pub endpoint: Endpoint = "localhost:9464",
///         /// How long a series is kept.
///         pub metric_expiration: Duration = "5m",
///         /// The password, if there is one.
///         pub password: Option<Secret>,
///     }
/// }
///
/// let body = parse("metric_expiration: 30s")?;
/// let mut out = Diagnostics::new();
/// let settings = PrometheusSettings::decode(&body, &Path::root(), &mut out);
/// let settings = out.into_result(settings)?.unwrap_or_default();
/// assert_eq!(settings.metric_expiration, Duration::from_secs(30));
/// assert_eq!(settings.endpoint.port, 9464);
/// assert_eq!(PrometheusSettings::FIELDS[1].default, Some("\"5m\""));
/// # Ok::<(), Diagnostics>(())
/// ```
///
/// A default is what would be written in the file: a string in quotes, a number, a bool, a list of
/// strings, or `()` for an empty list or map and for the defaults of nested settings. A field
/// without a default is required, except an `Option`. A key that is absent or null has its default.
///
/// Generated: the struct (`Debug`, `Clone`), [`Decode`](crate::Decode), `FIELDS`, and `Default` if
/// no field is required.
#[macro_export]
macro_rules! settings {
    (@field $head:tt [$($done:tt)*] $required:tt
        $(#[doc = $doc:expr])* $vis:vis $name:ident : Option<$inner:ty> $(, $($rest:tt)*)?
    ) => {
        $crate::settings!(@field $head
            [$($done)* { [$($doc)*] [$vis] $name [Option<$inner>] [] [] }] $required $($($rest)*)?);
    };
    (@field $head:tt [$($done:tt)*] $required:tt
        $(#[doc = $doc:expr])* $vis:vis $name:ident : $type:ty = $default:expr $(, $($rest:tt)*)?
    ) => {
        $crate::settings!(@field $head
            [$($done)* { [$($doc)*] [$vis] $name [$type] [$default] [] }] $required $($($rest)*)?);
    };
    (@field $head:tt [$($done:tt)*] [$($required:tt)*]
        $(#[doc = $doc:expr])* $vis:vis $name:ident : $type:ty $(, $($rest:tt)*)?
    ) => {
        $crate::settings!(@field $head
            [$($done)* { [$($doc)*] [$vis] $name [$type] [] [required] }] [$($required)* $name] $($($rest)*)?);
    };
    (@field [$(#[$meta:meta])* $vis:vis struct $struct:ident] [$({
        [$($doc:expr)*] [$fvis:vis] $name:ident [$type:ty] [$($default:expr)?] [$($needed:ident)?]
    })*] $required:tt) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $struct {
            $($(#[doc = $doc])* $fvis $name: $type,)*
        }

        impl $struct {
            /// The fields, for docs and schemas.
            $vis const FIELDS: &'static [$crate::FieldDoc] = &[$($crate::FieldDoc {
                name: $crate::key_name(stringify!($name)),
                type_name: <$type as $crate::Decode>::EXPECTED,
                default: $crate::settings!(@text $($default)?),
                required: $crate::settings!(@needed $($needed)?),
                doc: concat!($($doc, "\n"),*),
                fields: <$type as $crate::Decode>::NESTED,
            }),*];
        }

        impl $crate::Decode for $struct {
            const EXPECTED: &'static str = "map";
            const NESTED: &'static [$crate::FieldDoc] = Self::FIELDS;

            fn decode(
                node: &$crate::Node,
                path: &$crate::Path,
                out: &mut $crate::Diagnostics,
            ) -> ::core::option::Option<Self> {
                let errors = out.error_count();
                let known: &[&str] = &[$($crate::key_name(stringify!($name))),*];
                let fields = $crate::Fields::open(node, path, known, out)?;
                $(let $name = fields.get::<$type>(
                    $crate::key_name(stringify!($name)),
                    $crate::settings!(@node $($default)?),
                    out,
                );)*
                let _ = &fields;
                if out.error_count() > errors {
                    return ::core::option::Option::None;
                }
                ::core::option::Option::Some(Self { $($name: $name?,)* })
            }

            fn missing(
                position: &$crate::Position,
                path: &$crate::Path,
                out: &mut $crate::Diagnostics,
            ) -> ::core::option::Option<Self> {
                let absent = $crate::Node::new(::core::clone::Clone::clone(position), $crate::NodeKind::Null);
                <Self as $crate::Decode>::decode(&absent, path, out)
            }
        }

        $crate::settings!(@default $struct $required $({ $name [$type] [$($default)?] })*);
    };
    (@default $struct:ident [] $({ $name:ident [$type:ty] [$($default:expr)?] })*) => {
        impl ::core::default::Default for $struct {
            fn default() -> Self {
                Self { $($name: $crate::settings!(@value $name [$type] $($default)?),)* }
            }
        }
    };
    (@default $struct:ident [$($required:tt)+] $($rest:tt)*) => {};
    (@value $name:ident [$type:ty]) => { ::core::option::Option::None };
    (@value $name:ident [$type:ty] $default:expr) => { $crate::default_of::<$type>(stringify!($name), $default) };
    (@node) => { ::core::option::Option::None };
    (@node $default:expr) => { ::core::option::Option::Some($crate::Literal::node($default)) };
    (@text) => { ::core::option::Option::None };
    (@text $default:expr) => { ::core::option::Option::Some(stringify!($default)) };
    (@needed) => { false };
    (@needed $needed:ident) => { true };
    ($(#[$meta:meta])* $vis:vis struct $struct:ident { $($fields:tt)* }) => {
        $crate::settings!(@field [$(#[$meta])* $vis struct $struct] [] [] $($fields)*);
    };
}

#[cfg(test)]
mod tests;
