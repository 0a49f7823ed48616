mod os;
