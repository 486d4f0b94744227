"""What costs a node seconds of its CPU, asked only where the state that it depends on is another one."""
