"""What the words mean: findings, studies, the order. Pure: no I/O, no clock, no SQL, no pydicom."""
