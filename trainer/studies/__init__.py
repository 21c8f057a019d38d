"""Many runs, one table or figure of the paper."""
