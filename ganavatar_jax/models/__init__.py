"""Networks: thin Flax modules over the functions of ops and rendering."""
