mod diagnostics;
mod properties;
