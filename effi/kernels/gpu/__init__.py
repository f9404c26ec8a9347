"""What needs Triton: kernels and their launches, imported only where `dispatch.takes` said so."""
