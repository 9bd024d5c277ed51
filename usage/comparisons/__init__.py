"""A customer's own log of calls, held against what is charged: call by call, in five classes that add up."""
