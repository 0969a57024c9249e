"""The clients and capability rules that the operations data register, as tables, and who asks for them."""
